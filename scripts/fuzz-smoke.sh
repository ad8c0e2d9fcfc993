#!/usr/bin/env bash
# Fuzzes every target for a while: fuzz-smoke.sh [TARGET …]. SECONDS_EACH sets how long (60). Fails
# when a target finds something, and names the file that does it again.
#
# Stable Rust is enough: libFuzzer needs no sanitizer, and our code is safe Rust, whose panics,
# overflows and allocations the targets see without one.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

CARGO_FUZZ_VERSION=0.13.2
seconds="${SECONDS_EACH:-60}"
tools="$CACHE/cargo-fuzz-$CARGO_FUZZ_VERSION"
if [ ! -x "$tools/bin/cargo-fuzz" ]; then
    say "installing cargo-fuzz $CARGO_FUZZ_VERSION (once)"
    retry cargo install --quiet --locked --root "$tools" "cargo-fuzz@$CARGO_FUZZ_VERSION"
fi
PATH="$tools/bin:$PATH"

# What is fuzzed is what ships: the same processor flags, no `cfg(fuzzing)`.
export RUSTFLAGS="-C target-cpu=native"
export RAYON_NUM_THREADS=1
options=(--sanitizer none --no-cfg-fuzzing --codegen-units 4 --target-dir "$CARGO_TARGET_DIR/fuzz")

corpus="$CACHE/fuzz-corpus"
python3 scripts/fuzz_seeds.py "$DRAGOMAN_MODELS" "$corpus"

say "building the fuzz targets"
cargo fuzz build "${options[@]}"

if [ "$#" -gt 0 ]; then
    targets=("$@")
else
    mapfile -t targets < <(cargo fuzz list)
fi
failed=()
for target in "${targets[@]}"; do
    say "$target, $seconds s"
    mkdir -p "$corpus/$target"
    # The graph of a whole model is long even without its numbers.
    longest=65536
    [ "$target" = kokoro_onnx ] && longest=2097152
    log="$(mktemp)"
    if cargo fuzz run "${options[@]}" "$target" "$corpus/$target" -- \
        -max_total_time="$seconds" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 -verbosity=0 2>"$log"; then
        grep -E 'stat::(number_of_executed_units|peak_rss_mb)' "$log" >&2 || true
    else
        tail -n 40 "$log" >&2
        failed+=("$target")
    fi
    rm -f "$log"
done

[ "${#failed[@]}" = 0 ] || die "found something: ${failed[*]}. The inputs lie in \
fuzz/artifacts/TARGET; run one again with 'cargo fuzz run --sanitizer none TARGET FILE'"
