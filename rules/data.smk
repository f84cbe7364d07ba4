"""Raw files -> prepared dataset -> class index -> images and visible labels of every step."""

# Upper bound: Snakemake uses at most the cores it is given, and on a cluster the profile decides.
PREPARATION_THREADS = 32


rule fetch_archive:
    """Download, verify and unpack an official archive of a dataset that asks for it; resumes where it was interrupted."""
    output:
        marker="{root}/archives/{archive}.json",
    log:
        "{root}/archives/{archive}.log",
    wildcard_constraints:
        root=one_of(re.escape(root) for root, _ in ARCHIVES),
        archive=one_of({archive for _, archive in ARCHIVES}),
    localrule: True  # compute nodes of clusters seldom reach the internet
    shell:
        "{PYTHON} {SCRIPTS}/fetch_archive.py --archive {wildcards.archive} --root {wildcards.root:q} 2>&1 | tee {log:q}"


rule prepare_dataset:
    """Bring a raw source into the one form that everything else reads."""
    input:
        archives=known(lambda wildcards: archive_markers(wildcards.dataset)),
    output:
        RESULTS / "data/{dataset}/dataset.json",
    log:
        RESULTS / "logs/data/{dataset}/prepare.log",
    benchmark:
        RESULTS / "benchmarks/data/{dataset}/prepare.tsv"
    wildcard_constraints:
        dataset=one_of(map(re.escape, PLAN.datasets)),
    threads: PREPARATION_THREADS
    params:
        spec=lambda wildcards: argument(canonical_json(preparation_spec(PLAN, wildcards.dataset))),
        raw=lambda wildcards: raw_state(wildcards.dataset).token,
        work=str(RESULTS / "work/data/{dataset}"),
    shell:
        "{PYTHON} {SCRIPTS}/prepare_dataset.py --spec {params.spec:q} --token={params.raw:q} --manifest {output:q} --work {params.work:q} --workers {threads} > {log:q} 2>&1"


rule hold_out:
    """Divide the training images of a dataset: those that stay, and those that networks are evaluated on."""
    input:
        known(lambda wildcards: prepared(PLAN.parts[wildcards.dataset].whole)),
    output:
        RESULTS / "data/{dataset}/dataset.json",
    log:
        RESULTS / "logs/data/{dataset}/hold_out.log",
    benchmark:
        RESULTS / "benchmarks/data/{dataset}/hold_out.tsv"
    wildcard_constraints:
        dataset=one_of(map(re.escape, PLAN.parts)),
    localrule: True
    params:
        spec=lambda wildcards: argument(canonical_json(PLAN.parts[wildcards.dataset].spec)),
        work=str(RESULTS / "work/data/{dataset}"),
    shell:
        "{PYTHON} {SCRIPTS}/hold_out.py --spec {params.spec:q} --data {input:q} --output {output:q} --work {params.work:q} > {log:q} 2>&1"


rule class_index:
    """Count pixels, segments and instances per image and class, once."""
    input:
        known(RESULTS / "data/{dataset}/dataset.json"),
    output:
        RESULTS / "data/{dataset}/class_index.npz",
    log:
        RESULTS / "logs/data/{dataset}/class_index.log",
    benchmark:
        RESULTS / "benchmarks/data/{dataset}/class_index.tsv"
    threads: PREPARATION_THREADS
    params:
        work=str(RESULTS / "work/data/{dataset}"),
    shell:
        "{PYTHON} {SCRIPTS}/index_classes.py --data {input:q} --output {output:q} --work {params.work:q} --workers {threads} > {log:q} 2>&1"


rule fetch_list:
    """Download a published image list of a step, and verify its content."""
    output:
        RESULTS / "lists/{dataset}/{list}.npy",
    log:
        RESULTS / "logs/lists/{dataset}/{list}.log",
    wildcard_constraints:
        dataset=one_of(re.escape(name) for name in PLAN.datasets if PLAN.downloads_lists(name)),
        list=r"[^/]+/[^/]+",
    localrule: True
    params:
        kind=lambda wildcards: PLAN.dataset(wildcards.dataset).kind,
    shell:
        "{PYTHON} {SCRIPTS}/fetch_list.py --kind {params.kind} --list {wildcards.list}.npy --output {output:q} > {log:q} 2>&1"


rule fetch_weights:
    """Download published initial weights that a recipe names with an address, and verify their checksum."""
    output:
        "{weights}",
    log:
        "{weights}.log",
    wildcard_constraints:
        weights=one_of(map(re.escape, FETCHED_WEIGHTS)),
    localrule: True
    params:
        url=lambda wildcards: FETCHED_WEIGHTS[wildcards.weights]["url"],
        sha256=lambda wildcards: FETCHED_WEIGHTS[wildcards.weights]["sha256"],
    shell:
        "{PYTHON} {SCRIPTS}/fetch_weights.py --url {params.url:q} --sha256 {params.sha256:q} --output {output:q} 2>&1 | tee {log:q}"


rule split_steps:
    """Images and visible labels of one step."""
    input:
        index=known(RESULTS / "data/{dataset}/class_index.npz"),
        image_list=known(split_list),
    output:
        RESULTS / "splits/{dataset}/{group}/{split}.json",
    log:
        RESULTS / "logs/splits/{dataset}/{group}/{split}.log",
    benchmark:
        RESULTS / "benchmarks/splits/{dataset}/{group}/{split}.tsv"
    wildcard_constraints:
        group="[^/]+",
        split="[^/]+",
    localrule: True
    params:
        spec=lambda wildcards: argument(canonical_json(split_job(wildcards).spec)),
        image_list=lambda wildcards, input: f"--list {shlex.quote(str(input.image_list))}" if input.image_list else "",
    shell:
        "{PYTHON} {SCRIPTS}/split_steps.py --spec {params.spec:q} --index {input.index:q} {params.image_list} --output {output:q} > {log:q} 2>&1"
