# shellcheck shell=bash
# What the scripts beside this file share. Sourced, never run.

set -euo pipefail

# shellcheck disable=SC2034 # for the scripts that source this file
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/dragoman"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"
export DRAGOMAN_MODELS="${DRAGOMAN_MODELS:-$CACHE/models}"

say() { printf '\033[1;34m==>\033[0m %s\n' "$*" >&2; }

die() {
    printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
    exit 1
}

# The oldest Node that web/package.json allows.
NODE_AT_LEAST=20.19

require_node() {
    local version
    if ! version="$(node --version 2>/dev/null)" || ! command -v npm >/dev/null; then
        die "Node with npm is missing: install Node $NODE_AT_LEAST or newer"
    fi
    printf '%s\n' "$NODE_AT_LEAST" "${version#v}" | sort --version-sort --check=silent ||
        die "Node $version is too old to build the page: install Node $NODE_AT_LEAST or newer"
}

# Runs a command up to three times: registries have bad minutes.
retry() {
    local attempt
    for attempt in 1 2 3; do
        "$@" && return 0
        [ "$attempt" = 3 ] || {
            say "attempt $attempt failed: ${*:0:4} …; trying again in $((attempt * 5)) s"
            sleep $((attempt * 5))
        }
    done
    return 1
}

# python_env NAME REQUIREMENTS: makes a virtual environment with those pins once and prints its folder.
# The folder's name carries the hash of the pins and of the interpreter, so that a change of either
# makes a new one; the marker is written last, so that an interrupted one is made again.
python_env() {
    local name="$1" requirements="$2" key folder
    command -v python3 >/dev/null || die "python3 is missing: run 'make setup'"
    key="$({
        cat "$requirements"
        python3 -c 'import sys; print(sys.version, sys.executable)'
    } | sha256sum | cut -c1-16)"
    folder="$CACHE/python/$name-$key"
    mkdir -p "$CACHE/python"
    (
        flock 9
        [ -e "$folder/.complete" ] && exit 0
        say "making the Python environment $folder (once)"
        rm -rf "$folder"
        python3 -m venv "$folder"
        retry "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
            --requirement "$requirements"
        touch "$folder/.complete"
    ) 9>"$folder.lock" >&2 || die "cannot make the Python environment of $requirements"
    printf '%s\n' "$folder"
}

# hash_of FILE...: one hash over names and contents, and the version of Node.
hash_of() {
    {
        node --version
        sha256sum "$@"
    } | sha256sum | cut -c1-16
}

# npm_packages FOLDER WHAT: installs what the folder's lock file names, unless it is there already.
npm_packages() {
    local folder="$1" what="$2" wanted installed
    installed="$folder/node_modules/.complete"
    wanted="$(cd "$folder" && hash_of package.json package-lock.json .npmrc)"
    [ "$(cat "$installed" 2>/dev/null)" != "$wanted" ] || return 0
    say "installing $what (once)"
    (cd "$folder" && retry npm ci --silent >&2)
    echo "$wanted" >"$installed"
}
