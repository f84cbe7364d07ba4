"""Segue: continual (class-incremental) segmentation as one workflow. Start with README.md; `make demo` runs config.yaml."""

from snakemake.utils import min_version

min_version("9.0")

if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/state.smk"
include: "rules/data.smk"
include: "rules/memory.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/results.smk"
include: "rules/hooks.smk"


rule all:
    """Tables, curves and pictures of every experiment in the configuration."""
    default_target: True
    input:
        rules.tables.output,
        rules.significance.output,
        [
            RESULTS / "figures" / comparison / f"{figure}.{suffix}"
            for comparison in COMPARISONS
            for figure in FIGURES
            for suffix in FIGURE_FORMATS
        ],
        [RESULTS / "tables" / sweep / f"sweep.{suffix}" for sweep in SWEEPS for suffix in SWEEP_TABLES],
        [RESULTS / "figures" / sweep / f"sweep.{suffix}" for sweep in SWEEPS for suffix in FIGURE_FORMATS],
        [RESULTS / "figures" / comparison / f"gallery_{method}.png" for comparison, method in GALLERIES],
        list(rules.rank_agreement.output) if PLAN.config.ranked_against else [],


rule train_all:
    """Every training, without evaluating anything."""
    input:
        # Records are written last; checkpoints that nothing needs any more may have been removed.
        [RESULTS / directory / "train.json" for directory in PLAN.trainings],


rule prepare_all:
    """Datasets, splits and those memories that need no network."""
    input:
        [RESULTS / file for file in PLAN.splits],
        [RESULTS / file for file in PLAN.memories],
