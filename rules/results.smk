"""Everything that was measured, in tables, curves and pictures."""

GRIDS = {grid.name: grid for grid in PLAN.grids}
SHOWN = PLAN.grids if PLAN.config.gallery.images else ()
GALLERIES = {(grid.name, run.method): run for grid in SHOWN for run in grid.first_seed}
CONFIGURATION = canonical_json(PLAN.config.model_dump(exclude_defaults=True))


rule tables:
    """One tidy row per value, and the summary: method by scenario, mean and deviation over seeds, beside the papers."""
    input:
        evaluations=[RESULTS / directory / "evaluation.json" for directory in PLAN.evaluations],
        trainings=[RESULTS / directory / "train.json" for directory in PLAN.trainings],
    output:
        metrics=RESULTS / "tables/metrics.csv",
        per_class=RESULTS / "tables/per_class.csv",
        costs=RESULTS / "tables/costs.csv",
        markdown=report(
            RESULTS / "tables/summary.md",
            caption="captions/summary.rst",
            category="Tables",
            labels={"table": "summary"},
        ),
        csv=report(
            RESULTS / "tables/summary.csv",
            caption="captions/summary.rst",
            category="Tables",
            labels={"table": "summary, as CSV"},
        ),
        latex=RESULTS / "tables/summary.tex",
    log:
        RESULTS / "logs/tables.log",
    benchmark:
        RESULTS / "benchmarks/tables.tsv"
    localrule: True
    params:
        config=CONFIGURATION,
        published=short_hash((PROJECT / "config" / "published_results.csv").read_text(encoding="utf-8")),
        code=fingerprint("make_tables.py"),
        folder=RESULTS / "tables",
        results=RESULTS,
    shell:
        "{PYTHON} {SCRIPTS}/make_tables.py --config {params.config:q} --results {params.results:q} --published {SCRIPTS}/../config/published_results.csv --folder {params.folder:q} > {log:q} 2>&1"


rule figures:
    """Curves over steps, values per class over steps, forgetting: one set of figures per scenario."""
    input:
        metrics=RESULTS / "tables/metrics.csv",
        per_class=RESULTS / "tables/per_class.csv",
    output:
        curves=report(
            RESULTS / "figures/{grid}/curves.svg",
            caption="captions/curves.rst",
            category="Figures",
            subcategory="{grid}",
            labels={"figure": "curves over steps"},
        ),
        classes=report(
            RESULTS / "figures/{grid}/classes.svg",
            caption="captions/classes.rst",
            category="Figures",
            subcategory="{grid}",
            labels={"figure": "classes over steps"},
        ),
        forgetting=report(
            RESULTS / "figures/{grid}/forgetting.svg",
            caption="captions/forgetting.rst",
            category="Figures",
            subcategory="{grid}",
            labels={"figure": "forgetting"},
        ),
    log:
        RESULTS / "logs/figures/{grid}.log",
    benchmark:
        RESULTS / "benchmarks/figures/{grid}.tsv"
    wildcard_constraints:
        grid=one_of(GRIDS),
    localrule: True
    params:
        code=fingerprint("draw_figures.py"),
        grid=lambda wildcards: canonical_json(GRIDS[wildcards.grid].identity),
        folder=lambda wildcards: RESULTS / "figures" / wildcards.grid,
    shell:
        "{PYTHON} {SCRIPTS}/draw_figures.py --metrics {input.metrics:q} --per-class {input.per_class:q} --grid {params.grid:q} --folder {params.folder:q} > {log:q} 2>&1"


rule gallery:
    """Image, ground truth and the prediction after each step, for one method."""
    input:
        data=lambda wildcards: prepared(GALLERIES[wildcards.grid, wildcards.method].dataset),
        predictions=gallery_predictions,
    output:
        report(
            RESULTS / "figures/{grid}/gallery_{method}.png",
            caption="captions/gallery.rst",
            category="Galleries",
            subcategory="{grid}",
            labels={"method": "{method}"},
        ),
    log:
        RESULTS / "logs/figures/{grid}/gallery_{method}.log",
    benchmark:
        RESULTS / "benchmarks/figures/{grid}/gallery_{method}.tsv"
    wildcard_constraints:
        grid=one_of(GRIDS),
        method="[^/]+",
    localrule: True
    params:
        code=fingerprint("draw_gallery.py"),
        scenario=lambda wildcards: canonical_json(
            list(map(list, GALLERIES[wildcards.grid, wildcards.method].known_after))
        ),
    shell:
        "{PYTHON} {SCRIPTS}/draw_gallery.py --data {input.data:q} --predictions {input.predictions:q} --classes {params.scenario:q} --title {wildcards.method:q} --output {output:q} > {log:q} 2>&1"
