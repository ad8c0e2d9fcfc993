#!/usr/bin/env bash
# Runs the Rust tests: units, properties, and parity with the reference models. Arguments go to
# cargo. A runner named cargo-nextest on the path is used; else the one that a wheel carries; else
# `cargo test`, which runs the same tests with a little less isolation.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

if ! command -v cargo-nextest >/dev/null; then
    if tools="$(python_env tools scripts/tools.txt)"; then
        PATH="$tools/bin:$PATH"
    fi
fi

if command -v cargo-nextest >/dev/null; then
    cargo nextest run "$@" --no-fail-fast
else
    say "no cargo-nextest here: running the tests with cargo test"
    cargo test "$@" --lib --bins --tests --no-fail-fast
fi
cargo test --quiet "$@" --doc
