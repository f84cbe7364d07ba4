"""Evaluation of every checkpoint under every named protocol."""


def evaluation_job(wildcards):
    return PLAN.evaluations[f"{wildcards.training}/evaluation/{wildcards.reading}"]


rule evaluate_step:
    """Judge one checkpoint: the full confusion matrix, values per class, a few predictions for the gallery."""
    input:
        data=lambda wildcards: prepared(evaluation_job(wildcards).training.dataset),
        checkpoint=RESULTS / "{training}/checkpoint.pt",
    output:
        record=RESULTS / "{training}/evaluation/{reading}/evaluation.json",
        confusion=RESULTS / "{training}/evaluation/{reading}/confusion.npz",
        predictions=RESULTS / "{training}/evaluation/{reading}/predictions.npz",
    params:
        spec=lambda wildcards: canonical_json(evaluation_job(wildcards).spec),
        code=lambda wildcards: fingerprint("evaluate_step.py", *evaluation_job(wildcards).modules),
    wildcard_constraints:
        training="(base|runs)/.+/(seed|step)[0-9]+",
    log:
        RESULTS / "logs/{training}/evaluate_{reading}.log",
    benchmark:
        RESULTS / "benchmarks/{training}/evaluate_{reading}.tsv"
    threads: lambda wildcards: evaluation_job(wildcards).training.threads
    resources:
        gpu=GPUS_PER_TRAINING,
    shell:
        "{PYTHON} {SCRIPTS}/evaluate_step.py --spec {params.spec:q} --data {input.data:q} --checkpoint {input.checkpoint:q} --record {output.record:q} --confusion {output.confusion:q} --predictions {output.predictions:q} > {log:q} 2>&1"
