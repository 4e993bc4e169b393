#!/usr/bin/env bash
# A fleet to play with: engramd, a worker, Prometheus with our rules; Ctrl-C ends it and leaves nothing.
# Installs and builds what is missing; arguments go to fleet.py (--help). README.md: what to try.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/install-deps.sh
cmake --preset release >/dev/null
cmake --build --preset release --target engramd engramctl engram_client_python >&2
exec /usr/bin/python3 deploy/local/fleet.py --build build/release "$@"
