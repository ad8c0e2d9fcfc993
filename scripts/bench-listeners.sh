#!/usr/bin/env bash
# Measures what the listeners of one channel cost the media worker: bench-listeners.sh PROGRAM
# [NUMBER] [SECONDS]. Prints numbers, asserts nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

program="${1:?usage: bench-listeners.sh PROGRAM [NUMBER] [SECONDS]}"
shift
# A socket and a thread for every listener.
ulimit -n "$(ulimit -Hn)"
say "load before: $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) cores"
exec "$program" "$@"
