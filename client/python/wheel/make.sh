#!/usr/bin/env bash
# Makes a wheel of a built tree; prints its path.
#   client/python/wheel/make.sh BUILD_DIR OUT_DIR
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: make.sh BUILD_DIR OUT_DIR" >&2; exit 2; }
build=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cmake --install "$build" --prefix "$stage" --component client-python >&2
# The library lies beside the extension, whose run path is $ORIGIN, under the name that it asks for.
library=$(readlink -f "$build/lib/libengram_client.so")
soname=$(objdump -p "$library" | awk '$1 == "SONAME" {print $2}')
cp "$library" "$stage/python/engram_client/$soname"
version=$(sed -n 's/^project(engram VERSION \([0-9.]*\).*/\1/p' "$here/../../../CMakeLists.txt")
/usr/bin/python3 "$here/make_wheel.py" --stage "$stage/python" --version "$version" \
  --license "$here/../../../LICENSE" --out "$out"
