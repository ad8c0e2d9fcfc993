#!/usr/bin/env bash
# Installs the system packages that building and running need; with `test`, those of the tests too.
# Only looks when they are there already, which takes a fraction of a second.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# To build: a C and C++ compiler and cmake for libopus and Oniguruma.
PACKAGES=(build-essential cmake pkg-config curl)
# To run: the translator and the phonemes are programs of their own.
PACKAGES+=(apertium apertium-eng-spa espeak-ng)
# To try it, and to measure and test it: recorded prompts with their texts, music, and a decoder for them.
PACKAGES+=(ffmpeg asterisk-moh-opsound-g722)
for language in en es fr it ru; do
    PACKAGES+=("asterisk-core-sounds-$language" "asterisk-core-sounds-$language-g722")
done

# To test the page in a browser, and media by way of a TURN server.
[ "${1:-}" != test ] || PACKAGES+=(chromium coturn)

for tool in cargo python3; do
    command -v "$tool" >/dev/null || die "$tool is missing: install Rust (see rustup) and Python 3.10 or newer first"
done
require_node
# Debian's Python comes without venv; another one has it.
python3 -c 'import ensurepip, venv' 2>/dev/null || PACKAGES+=(python3-venv)

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "this is not a Debian-like system, so nothing can be installed for you. Needed: a C/C++ \
compiler, cmake, pkg-config, curl, ffmpeg, espeak-ng, Apertium with the eng-spa pair, Python's venv, \
for the tests Chromium and coturn, and the Asterisk core sounds in G.722 with their texts (en, es, fr, it, ru) under \
/usr/share/asterisk/sounds. In Debian's names: ${PACKAGES[*]}"
fi

present="$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${PACKAGES[@]}" 2>/dev/null || true)"
missing=()
for package in "${PACKAGES[@]}"; do
    grep -qx "$package installed" <<<"$present" || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
        die "missing packages and no sudo: as root, run 'apt-get install ${missing[*]}'"
    as_root=(sudo)
fi

say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
retry "${as_root[@]}" apt-get update -qq
retry "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
