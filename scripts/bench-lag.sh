#!/usr/bin/env bash
# Measures how late an interpretation is: bench-lag.sh PROGRAM [ARGUMENTS OF bench_lag.py]. Prints
# numbers, asserts nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: bench-lag.sh PROGRAM [ARGUMENTS]}"
shift
env="$(python_env e2e tests/e2e/requirements.txt)"
cargo build --release --locked --workspace --example transcribe

export DRAGOMAN_PROGRAM="$program"
export PYTHONPATH="$ROOT/tests/e2e" PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" scripts/bench_lag.py "$@"
