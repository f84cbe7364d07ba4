"""Everything that was measured, in tables, curves and pictures."""

from model.workflow.plan_jobs import (
    AGREEMENT,
    FIGURE_FORMATS,
    FIGURES,
    PUBLISHED,
    SIGNIFICANCE,
    SWEEP_TABLES,
    agreement_inputs,
    galleries,
    loss_files,
    memory_files,
    significance_inputs,
    table_inputs,
)

COMPARISONS = {comparison.name: comparison for comparison in PLAN.comparisons}
GALLERIES = galleries(PLAN)
SWEEPS = {sweep.name: sweep for sweep in PLAN.sweeps}
CONFIGURATION = canonical_json(PLAN.config.model_dump(exclude_defaults=True))


rule tables:
    """One tidy row per value, and the summary: method by scenario, mean and deviation over seeds, beside published numbers."""
    input:
        known(lambda wildcards: [read.file for read in table_inputs(PLAN, RESULTS).values()]),
    output:
        metrics=RESULTS / "tables/metrics.csv",
        per_class=RESULTS / "tables/per_class.csv",
        costs=RESULTS / "tables/costs.csv",
        orders=RESULTS / "tables/orders.csv",
        markdown=RESULTS / "tables/summary.md",
        csv=report(
            RESULTS / "tables/summary.csv",
            caption="captions/summary.rst",
            category="Tables",
            labels={"table": "summary, as CSV"},
        ),
        latex=RESULTS / "tables/summary.tex",
        html=report(
            RESULTS / "tables/summary.html",
            caption="captions/summary.rst",
            category="Tables",
            labels={"table": "summary"},
        ),
        headline=RESULTS / "tables/headline.html",
        published=report(
            RESULTS / "tables/published.html",
            caption="captions/published.rst",
            category="Tables",
            labels={"table": "beside published tables"},
        ),
        others=[RESULTS / f"tables/published.{suffix}" for suffix in ("md", "tex")],
    log:
        RESULTS / "logs/tables.log",
    benchmark:
        RESULTS / "benchmarks/tables.tsv"
    localrule: True
    params:
        config=lambda wildcards: argument(CONFIGURATION),  # a function: braces in plain text would be wildcards
        published=PUBLISHED,
        folder=RESULTS / "tables",
        results=RESULTS,
    shell:
        "{PYTHON} {SCRIPTS}/make_tables.py --config {params.config:q} --results {params.results:q} --published {params.published:q} --folder {params.folder:q} > {log:q} 2>&1"


rule significance:
    """Each pair of methods: difference, its interval and p value by a bootstrap over images and seeds."""
    input:
        known(lambda wildcards: [read.file for read in significance_inputs(PLAN, RESULTS).values()]),
    output:
        html=report(
            RESULTS / f"{SIGNIFICANCE}.html",
            caption="captions/significance.rst",
            category="Tables",
            labels={"table": "differences between methods"},
        ),
        others=[RESULTS / f"{SIGNIFICANCE}.{suffix}" for suffix in ("csv", "md")],
    log:
        RESULTS / "logs/significance.log",
    benchmark:
        RESULTS / "benchmarks/significance.tsv"
    localrule: True
    params:
        config=lambda wildcards: argument(CONFIGURATION),
        folder=RESULTS / "tables",
        results=RESULTS,
    shell:
        "{PYTHON} {SCRIPTS}/compare_methods.py --config {params.config:q} --results {params.results:q} --folder {params.folder:q} > {log:q} 2>&1"


rule rank_agreement:
    """Whether the results rank methods as published tables do: Kendall's rank correlation with a bootstrap interval."""
    input:
        known(lambda wildcards: [read.file for read in agreement_inputs(PLAN, RESULTS).values()]),
    output:
        table=RESULTS / AGREEMENT / "agreement.csv",
        figure=report(
            RESULTS / AGREEMENT / "agreement.svg",
            caption="captions/agreement.rst",
            category="Figures",
            labels={"figure": "agreement with published ranks"},
        ),
    log:
        RESULTS / "logs/rank_agreement.log",
    benchmark:
        RESULTS / "benchmarks/rank_agreement.tsv"
    localrule: True
    params:
        config=lambda wildcards: argument(CONFIGURATION),
        published=PUBLISHED,
        folder=RESULTS / AGREEMENT,
        results=RESULTS,
    shell:
        "{PYTHON} {SCRIPTS}/compare_ranks.py --config {params.config:q} --results {params.results:q} --published {params.published:q} --folder {params.folder:q} > {log:q} 2>&1"


rule figures:
    """Curves over steps, old against new classes, forgetting, values per class, losses, memories: one set per scenario."""
    input:
        metrics=known(RESULTS / "tables/metrics.csv"),
        per_class=known(RESULTS / "tables/per_class.csv"),
        losses=known(drawn(loss_files)),
        memories=known(drawn(memory_files)),
    output:
        curves=report(
            RESULTS / "figures/{comparison}/curves.svg",
            caption="captions/curves.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "curves over steps"},
        ),
        trade_off=report(
            RESULTS / "figures/{comparison}/trade_off.svg",
            caption="captions/trade_off.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "old against new classes"},
        ),
        forgetting=report(
            RESULTS / "figures/{comparison}/forgetting.svg",
            caption="captions/forgetting.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "forgetting"},
        ),
        classes=report(
            RESULTS / "figures/{comparison}/classes.svg",
            caption="captions/classes.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "classes over steps"},
        ),
        losses=report(
            RESULTS / "figures/{comparison}/losses.svg",
            caption="captions/losses.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "loss terms"},
        ),
        memory=report(
            RESULTS / "figures/{comparison}/memory.svg",
            caption="captions/memory.rst",
            category="Figures",
            subcategory="{comparison}",
            labels={"figure": "exemplar memories"},
        ),
        png=[RESULTS / f"figures/{{comparison}}/{name}.png" for name in FIGURES],
    log:
        RESULTS / "logs/figures/{comparison}.log",
    benchmark:
        RESULTS / "benchmarks/figures/{comparison}.tsv"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
    localrule: True
    params:
        comparison=lambda wildcards: argument(canonical_json(COMPARISONS[wildcards.comparison].identity)),
        losses=lambda wildcards: argument(canonical_json(files_of(loss_files(COMPARISONS[wildcards.comparison])))),
        memories=lambda wildcards: argument(canonical_json(files_of(memory_files(COMPARISONS[wildcards.comparison])))),
        folder=lambda wildcards: RESULTS / "figures" / wildcards.comparison,
    shell:
        "{PYTHON} {SCRIPTS}/draw_figures.py --metrics {input.metrics:q} --per-class {input.per_class:q} --comparison {params.comparison:q} --losses {params.losses:q} --memories {params.memories:q} --folder {params.folder:q} > {log:q} 2>&1"


rule sweep:
    """What each combination of a sweep gives: one table and one figure for each scenario and setting."""
    input:
        metrics=known(RESULTS / "tables/metrics.csv"),
    output:
        table=report(
            RESULTS / "tables/{sweep}/sweep.html",
            caption="captions/sweep.rst",
            category="Tables",
            labels={"table": "sweep, {sweep}"},
        ),
        others=[RESULTS / f"tables/{{sweep}}/sweep.{suffix}" for suffix in SWEEP_TABLES if suffix != "html"],
        figure=report(
            RESULTS / "figures/{sweep}/sweep.svg",
            caption="captions/sweep.rst",
            category="Figures",
            subcategory="{sweep}",
            labels={"figure": "sweep"},
        ),
        png=RESULTS / "figures/{sweep}/sweep.png",
    log:
        RESULTS / "logs/figures/{sweep}.log",
    benchmark:
        RESULTS / "benchmarks/figures/{sweep}.tsv"
    wildcard_constraints:
        sweep=one_of(map(re.escape, SWEEPS)),
    localrule: True
    params:
        sweep=lambda wildcards: argument(canonical_json(SWEEPS[wildcards.sweep].spec)),
        table=lambda wildcards: RESULTS / "tables" / wildcards.sweep / "sweep",
        figure=lambda wildcards: RESULTS / "figures" / wildcards.sweep / "sweep",
    shell:
        "{PYTHON} {SCRIPTS}/summarise_sweep.py --metrics {input.metrics:q} --sweep {params.sweep:q} --table {params.table:q} --figure {params.figure:q} > {log:q} 2>&1"


rule gallery:
    """Image, ground truth and the prediction after each step, for one method."""
    input:
        data=known(lambda wildcards: prepared(gallery_run(wildcards).dataset)),
        predictions=known(gallery_predictions),
    output:
        report(
            RESULTS / "figures/{comparison}/gallery_{method}.png",
            caption="captions/gallery.rst",
            category="Galleries",
            subcategory="{comparison}",
            labels={"method": "{method}"},
        ),
    log:
        RESULTS / "logs/figures/{comparison}/gallery_{method}.log",
    benchmark:
        RESULTS / "benchmarks/figures/{comparison}/gallery_{method}.tsv"
    wildcard_constraints:
        comparison=one_of(COMPARISONS),
        method="[^/]+",
    localrule: True
    params:
        classes=lambda wildcards: argument(canonical_json(gallery_spec(gallery_run(wildcards))["classes"])),
    shell:
        "{PYTHON} {SCRIPTS}/draw_gallery.py --data {input.data:q} --predictions {input.predictions:q} --classes {params.classes:q} --title {wildcards.method:q} --output {output:q} > {log:q} 2>&1"
