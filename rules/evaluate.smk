"""Evaluation of every checkpoint under every named protocol."""


rule evaluate_step:
    """Judge one checkpoint: raw counts, values per class, a few predictions for the gallery."""
    input:
        data=lambda wildcards: prepared(evaluation_job(wildcards).training.dataset),
        checkpoint=RESULTS / "{training}/checkpoint.pt",
    output:
        record=RESULTS / "{training}/evaluation/{reading}/evaluation.json",
        counts=RESULTS / "{training}/evaluation/{reading}/counts.npz",
        predictions=RESULTS / "{training}/evaluation/{reading}/predictions.npz",
    log:
        RESULTS / "logs/{training}/evaluate_{reading}.log",
    benchmark:
        RESULTS / "benchmarks/{training}/evaluate_{reading}.tsv"
    wildcard_constraints:
        training="(base|runs)/.+/(seed|step)[0-9]+",
    threads: lambda wildcards: evaluation_job(wildcards).training.threads
    resources:
        gpu=GPUS_PER_TRAINING,
    params:
        spec=lambda wildcards: canonical_json(evaluation_job(wildcards).spec),
        code=lambda wildcards: fingerprint("evaluate_step.py", *evaluation_job(wildcards).modules),
    shell:
        "exec {PYTHON} {SCRIPTS}/lease_gpus.py {resources.gpu} {PYTHON} {SCRIPTS}/evaluate_step.py --spec {params.spec:q} --data {input.data:q} --checkpoint {input.checkpoint:q} --record {output.record:q} --counts {output.counts:q} --predictions {output.predictions:q} > {log:q} 2>&1"
