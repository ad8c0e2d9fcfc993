#!/usr/bin/env bash
# Measures how late the media worker's ticks are while the models compute: bench-tick.sh PROGRAM
# [ARGUMENTS OF bench_tick.py]. Prints numbers, asserts nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: bench-tick.sh PROGRAM [ARGUMENTS]}"
shift
env="$(python_env e2e tests/e2e/requirements.txt)"

export DRAGOMAN_PROGRAM="$program"
export PYTHONPATH="$ROOT/tests/e2e" PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" scripts/bench_tick.py "$@"
