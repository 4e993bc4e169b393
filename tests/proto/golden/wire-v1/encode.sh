#!/usr/bin/env bash
# encode.sh NAME...: encodes NAME.txtpb of this folder as NAME.bin, by protoc. For messages that are new: those that are
# kept stay as they are, whatever becomes of the .proto file.
set -euo pipefail
cd "$(dirname "$0")"
for name in "$@"; do
  message=$(sed -n '1s/^# //p' "$name.txtpb")
  protoc -I../../../../proto --encode="engram.v1.$message" engram/v1/engram.proto <"$name.txtpb" >"$name.bin"
done
