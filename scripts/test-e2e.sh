#!/usr/bin/env bash
# Runs the end-to-end tests: test-e2e.sh PROGRAM [PYTEST ARGUMENTS]. An independent WebRTC stack
# (aiortc) calls the real server, and an independent recogniser (faster-whisper) listens.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: test-e2e.sh PROGRAM [PYTEST ARGUMENTS]}"
shift
[ -x "$program" ] || die "no program at $program: run 'make build'"
env="$(python_env e2e tests/e2e/requirements.txt)"
npm_packages "$ROOT/tests/e2e/node" "the WebRTC clients from npm"

export DRAGOMAN_PROGRAM="$program"
export PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" -m pytest tests/e2e "$@"
