#!/usr/bin/env bash
# Holds our LibreTranslate interface against the real LibreTranslate: test-peers.sh PROGRAM [PYTEST
# ARGUMENTS]. Its Python environment takes some 600 MB, which is why `make test` leaves it out; what it
# finds is written down in the contract tests of signaling/.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: test-peers.sh PROGRAM [PYTEST ARGUMENTS]}"
shift
[ -x "$program" ] || die "no program at $program: run 'make build'"
env="$(python_env peers tests/peers/requirements.txt)"

export DRAGOMAN_PROGRAM="$program"
export PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" -m pytest -p no:cacheprovider tests/peers "$@"
