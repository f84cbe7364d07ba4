"""Evaluation of every checkpoint under every named protocol."""


rule evaluate_step:
    """Evaluate one checkpoint: raw counts, values per class, a few predictions for the gallery."""
    input:
        data=known(lambda wildcards: prepared(evaluation_job(wildcards).training.dataset)),
        checkpoint=known(RESULTS / "{training}/checkpoint.pt"),
    output:
        record=RESULTS / "{training}/evaluation/{variant}/evaluation.json",
        counts=RESULTS / "{training}/evaluation/{variant}/counts.npz",
        predictions=RESULTS / "{training}/evaluation/{variant}/predictions.npz",
    log:
        RESULTS / "logs/{training}/evaluate_{variant}.log",
    benchmark:
        RESULTS / "benchmarks/{training}/evaluate_{variant}.tsv"
    wildcard_constraints:
        training="(base|imported|runs)/.+/(seed|step)[0-9]+",
    threads: lambda wildcards: evaluation_job(wildcards).training.threads
    resources:
        gpu=GPUS_PER_TRAINING,
    params:
        spec=lambda wildcards: argument(canonical_json(evaluation_job(wildcards).spec)),
        work=lambda wildcards: RESULTS / "work" / evaluation_job(wildcards).directory,
    shell:
        "exec {PYTHON} {SCRIPTS}/assign_gpus.py {resources.gpu} {PYTHON} {SCRIPTS}/evaluate_step.py --spec {params.spec:q} --data {input.data:q} --checkpoint {input.checkpoint:q} --record {output.record:q} --counts {output.counts:q} --predictions {output.predictions:q} --work {params.work:q} > {log:q} 2>&1"
