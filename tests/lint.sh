#!/usr/bin/env bash
# Style, types, import directions and the workflow's own checks. Stops at the first complaint.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
echo "== ruff";        "$bin/ruff" check . ; "$bin/ruff" format --check .
echo "== snakefmt";    "$bin/snakefmt" --check Snakefile rules
echo "== mypy";        "$bin/mypy"
echo "== imports";     "$bin/lint-imports"
