#!/usr/bin/env bash
# Makes Debian packages of server, client library, its headers and Python module: build/packages/*.deb.
#   deploy/packages.sh    prints their paths; ENGRAM_MAINTAINER="Name <address>" is who they name
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/install-deps.sh packages
tree=build/packages
options=(-DENGRAM_PACKAGES=ON -DCMAKE_INSTALL_PREFIX=/usr)
[ -z "${ENGRAM_MAINTAINER:-}" ] || options+=("-DENGRAM_MAINTAINER=$ENGRAM_MAINTAINER")
cmake --preset release -B "$tree" "${options[@]}" >&2
cmake --build "$tree" --target engramd engramctl engram_client_shared engram_client_python >&2
rm -f "$tree"/*.deb
# Whatever the caller's own files are: packages are read by everybody.
(umask 022 && cd "$tree" && cpack) >&2
ls "$PWD/$tree"/*.deb
