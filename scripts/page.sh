#!/usr/bin/env bash
# The page (web/): page.sh build | check | test. `build` leaves it in web/dist, where the Rust build
# takes it from, and costs nothing when no source changed; that file tree is touched only when it
# did, so that the program is not built again for nothing.

# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT/web"

require_node

# One at a time; the lock ends with the script.
exec 9<package.json
flock 9

npm_packages "$ROOT/web" "the packages that build the page"

case "${1:?usage: page.sh build | check | test}" in
build)
    built=node_modules/.built
    mapfile -t sources < <(find src public ./*.html ./*.ts ./*.json .npmrc -type f | sort)
    wanted="$(hash_of "${sources[@]}")"
    if [ ! -e dist/index.html ] || [ "$(cat "$built" 2>/dev/null)" != "$wanted" ]; then
        say "building the page"
        npx --no-install vite build --logLevel warn >&2
        echo "$wanted" >"$built"
    fi
    ;;
check | test) npm run --silent "$1" ;;
*) die "usage: page.sh build | check | test" ;;
esac
