#!/usr/bin/env bash
# How the lag grows with the number of calls: bench-scaling.sh PROGRAM LOADTEST [ARGUMENTS OF
# bench_scaling.py]. Prints numbers, asserts nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: bench-scaling.sh PROGRAM LOADTEST [ARGUMENTS]}"
loadtest="${2:?usage: bench-scaling.sh PROGRAM LOADTEST [ARGUMENTS]}"
shift 2
[ -x "$program" ] || die "no program at $program: run 'make build'"
env="$(python_env e2e tests/e2e/requirements.txt)"
corpus="$(scripts/loadtest-corpus.sh)"

export DRAGOMAN_PROGRAM="$program"
export PYTHONPATH="$ROOT/tests/e2e" PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" scripts/bench_scaling.py --loadtest "$loadtest" --corpus "$corpus" "$@"
