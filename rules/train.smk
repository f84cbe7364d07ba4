"""Training: the base step, shared by all runs with an equal spec, and the increments that continue from it."""

BASE = RESULTS / "base/{dataset}/{base}/seed{seed}"
IMPORTED = RESULTS / "imported/{dataset}/{imported}/seed{seed}"
STEP = RESULTS / "runs/{dataset}/{comparison}/{recipe}/{method}/seed{seed}/step{step}"


rule train_base:
    """Train the base step once for every run that starts from it."""
    input:
        data=known(RESULTS / "data/{dataset}/dataset.json"),
        split=known(lambda wildcards: RESULTS / base_training(wildcards).split.file),
        weights=known(initial_weights),
    output:
        checkpoint=BASE / "checkpoint.pt",
        record=BASE / "train.json",
        curves=BASE / "train.csv",
    log:
        RESULTS / "logs/base/{dataset}/{base}/seed{seed}/train.log",
    benchmark:
        RESULTS / "benchmarks/base/{dataset}/{base}/seed{seed}/train.tsv"
    wildcard_constraints:
        base="[^/]+",
    threads: lambda wildcards: base_training(wildcards).threads
    resources:
        gpu=GPUS_PER_TRAINING,
        processes=0,
        micro_batch=0,
    params:
        spec=lambda wildcards: argument(canonical_json(base_training(wildcards).spec)),
        work=lambda wildcards: RESULTS / "work" / base_training(wildcards).directory,
        start=process_starter,
        passes=smaller_passes,
    shell:
        "exec {PYTHON} {SCRIPTS}/assign_gpus.py {resources.gpu} {params.start}{PYTHON} {SCRIPTS}/train_step.py --spec {params.spec:q} --data {input.data:q} --split {input.split:q} --checkpoint {output.checkpoint:q} --record {output.record:q} --curves {output.curves:q} --work {params.work:q}{params.passes} > {log:q} 2>&1"


rule import_checkpoint:
    """Take a file in the place of a training: released weights, or a checkpoint from elsewhere."""
    input:
        file=known(imported_file),
    output:
        checkpoint=IMPORTED / "checkpoint.pt",
        record=IMPORTED / "train.json",
        curves=IMPORTED / "train.csv",
    log:
        RESULTS / "logs/imported/{dataset}/{imported}/seed{seed}/import.log",
    wildcard_constraints:
        imported="[^/]+",
    params:
        spec=lambda wildcards: argument(canonical_json(imported_training(wildcards).spec)),
    shell:
        "exec {PYTHON} {SCRIPTS}/import_checkpoint.py --spec {params.spec:q} --file {input.file:q} --checkpoint {output.checkpoint:q} --record {output.record:q} --curves {output.curves:q} > {log:q} 2>&1"


rule train_step:
    """Train one increment from the previous step's checkpoint and the memory chosen so far."""
    input:
        data=known(RESULTS / "data/{dataset}/dataset.json"),
        split=known(lambda wildcards: RESULTS / step_training(wildcards).split.file),
        previous=known(lambda wildcards: RESULTS / step_training(wildcards).previous.checkpoint),
        memory=known(step_memory),
    output:
        checkpoint=STEP / "checkpoint.pt",
        record=STEP / "train.json",
        curves=STEP / "train.csv",
    log:
        RESULTS / "logs/runs/{dataset}/{comparison}/{recipe}/{method}/seed{seed}/step{step}/train.log",
    benchmark:
        RESULTS / "benchmarks/runs/{dataset}/{comparison}/{recipe}/{method}/seed{seed}/step{step}/train.tsv"
    wildcard_constraints:
        comparison="[^/]+",
        recipe="[^/]+",
        method="[^/]+",
    threads: lambda wildcards: step_training(wildcards).threads
    resources:
        gpu=GPUS_PER_TRAINING,
        processes=0,
        micro_batch=0,
    params:
        spec=lambda wildcards: argument(canonical_json(step_training(wildcards).spec)),
        work=lambda wildcards: RESULTS / "work" / step_training(wildcards).directory,
        start=process_starter,
        passes=smaller_passes,
        memory=lambda wildcards: " ".join(f"--memory {shlex.quote(str(file))}" for file in step_memory(wildcards)),
    shell:
        "exec {PYTHON} {SCRIPTS}/assign_gpus.py {resources.gpu} {params.start}{PYTHON} {SCRIPTS}/train_step.py --spec {params.spec:q} --data {input.data:q} --split {input.split:q} --previous {input.previous:q} {params.memory} --checkpoint {output.checkpoint:q} --record {output.record:q} --curves {output.curves:q} --work {params.work:q}{params.passes} > {log:q} 2>&1"
