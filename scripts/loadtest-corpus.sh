#!/usr/bin/env bash
# Makes the recordings that the load test speaks, once, and prints where they lie.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

corpus="$CACHE/loadtest-corpus"
wanted="$(cat "$ROOT/scripts/loadtest_corpus.py" "$ROOT/tests/e2e/harness/prompts.py" |
    sha256sum | cut -c1-16)"
if [ "$(cat "$corpus/.complete" 2>/dev/null)" != "$wanted" ]; then
    say "decoding the recordings of the load test (once)"
    rm -rf "$corpus"
    PYTHONDONTWRITEBYTECODE=1 python3 "$ROOT/scripts/loadtest_corpus.py" "$corpus"
    echo "$wanted" >"$corpus/.complete"
fi
printf '%s\n' "$corpus"
