"""Exemplar selection: the memory of step t is chosen from memory t-1 and the images of step t-1."""


rule select_memory:
    """Choose the exemplars that a step replays, from annotations alone."""
    input:
        index=known(RESULTS / "data/{dataset}/class_index.npz"),
        split=known(lambda wildcards: RESULTS / memory_job(wildcards).split.file),
        previous=known(previous_memory),
    output:
        RESULTS / "memory/{dataset}/{chain}/{rule}/seed{seed}/step{step}.json",
    log:
        RESULTS / "logs/memory/{dataset}/{chain}/{rule}/seed{seed}/step{step}.log",
    benchmark:
        RESULTS / "benchmarks/memory/{dataset}/{chain}/{rule}/seed{seed}/step{step}.tsv"
    wildcard_constraints:
        chain="[^/]+",
        rule="[^/]+",
    localrule: True
    params:
        spec=lambda wildcards: argument(canonical_json(memory_job(wildcards).spec)),
        previous=lambda wildcards, input: f"--previous {shlex.quote(str(input.previous))}" if input.previous else "",
    shell:
        "{PYTHON} {SCRIPTS}/select_memory.py --spec {params.spec:q} --index {input.index:q} --split {input.split:q} {params.previous} --output {output:q} > {log:q} 2>&1"
