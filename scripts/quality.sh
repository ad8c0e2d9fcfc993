#!/usr/bin/env bash
# Measures quality on recordings: quality.sh PROGRAM [ARGUMENTS OF quality.py]. Prints numbers,
# asserts nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: quality.sh PROGRAM [ARGUMENTS]}"
shift
env="$(python_env e2e tests/e2e/requirements.txt)"

export DRAGOMAN_PROGRAM="$program"
export PYTHONPATH="$ROOT/tests/e2e" PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" scripts/quality.py "$@"
