#!/usr/bin/env bash
# Formatting, clippy, dependencies, the page, shell scripts, Python and workflows.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 ||
        die "cargo $component is missing: run 'rustup component add ${component/fmt/rustfmt}'"
done

cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --release --locked --workspace --all-targets -- -D warnings

scripts/page.sh check

tools="$(python_env tools scripts/tools.txt)"
"$tools/bin/shellcheck" --external-sources scripts/*.sh .ci/run
"$tools/bin/actionlint" -color=false
"$tools/bin/ruff" check --quiet tests scripts inference
"$tools/bin/ruff" format --quiet --check tests scripts inference
# Advisories need a database that is not in a registry; the nightly workflow checks them.
PATH="$tools/bin:$PATH" cargo deny --log-level error check bans licenses sources
