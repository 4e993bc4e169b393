#!/usr/bin/env bash
# Rebuilds kjv.tok: Genesis of the King James Bible (Debian packages bible-kjv-text and bible-kjv,
# the text and its reader), tokenized with the DeepSeek-V3 tokenizer. Needs node and npm as well.
#   deploy/data/make-trace.sh OUT
set -euo pipefail

[ $# -eq 1 ] || { echo "error: usage: make-trace.sh OUT" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
command -v bible >/dev/null ||
  { echo "error: the Debian package bible-kjv is not installed" >&2; exit 1; }
# One verse a line, without its number.
bible -f 'Ge1:1-Ge50:26' | cut -d' ' -f2- | "$here/with-tokenizer.sh" tokenize.mjs "$1"
