#!/usr/bin/env bash
# Runs the load test against a server of its own: loadtest.sh PROGRAM LOADTEST ARGUMENTS. The server
# listens on loopback alone, on ports that the system chooses, and ends with the test.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

program="${1:?usage: loadtest.sh PROGRAM LOADTEST ARGUMENTS}"
loadtest="${2:?usage: loadtest.sh PROGRAM LOADTEST ARGUMENTS}"
shift 2
corpus="$(scripts/loadtest-corpus.sh)"
folder="$(mktemp -d)"
server=
# shellcheck disable=SC2329 # the trap calls it
end() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT

"$program" serve --development --ready-json --http 127.0.0.1:0 --admin 127.0.0.1:0 \
    --udp-bind 127.0.0.1 --udp-port 0 --announce 127.0.0.1 --transcripts "" \
    >"$folder/ready" 2>"$folder/log" &
server=$!
say "starting a server"
for _ in $(seq 1200); do
    ! grep -q '"event":"ready"' "$folder/ready" || break
    kill -0 "$server" 2>/dev/null || die "the server did not start:
$(tail -n 20 "$folder/log")"
    sleep 0.1
done
field() { python3 -c 'import json, sys
for line in sys.stdin:
    if "\"ready\"" in line: print(json.loads(line)[sys.argv[1]])' "$1" <"$folder/ready"; }
address="$(field http)"
[ -n "$address" ] || die "the server was not ready after two minutes"
DRAGOMAN_API_KEY="$(field api_key)"
export DRAGOMAN_API_KEY
# Sockets and threads for everybody.
ulimit -n "$(ulimit -Hn)"
"$loadtest" "$@" --server "$address" --corpus "$corpus"
