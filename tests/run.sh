#!/usr/bin/env bash
# The whole test suite. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/lint.sh
# One thread a worker: tiny tensors gain nothing from more, and results stay the same on every machine.
export OMP_NUM_THREADS=1
echo "== pytest"
exec .venv/bin/pytest -n "${SEGUE_TEST_WORKERS:-2}" --dist loadgroup "$@"
