#!/usr/bin/env bash
# Times the models beside their peers: bench-peers.sh PROGRAM [ARGUMENTS OF bench.py]. Prints numbers,
# asserts nothing. The peers' Python environment takes some 500 MB.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: bench-peers.sh PROGRAM [ARGUMENTS]}"
shift
[ -x "$program" ] || die "no program at $program: run 'make build'"
env="$(python_env bench-peers scripts/peers/requirements.txt)"
cargo build --release --locked --workspace \
    --example transcribe --example translator_speed --example speak

export DRAGOMAN_PROGRAM="$program" PYTHONDONTWRITEBYTECODE=1
exec "$env/bin/python" scripts/peers/bench.py "$@"
