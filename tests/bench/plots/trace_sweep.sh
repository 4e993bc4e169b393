#!/usr/bin/env bash
# Measures what dedup and the cache spare, by size of chunk, size of cache and kind of text.
#   tests/bench/plots/trace_sweep.sh TRACE KINDS OUT
# TRACE is made by deploy/data/make-text-trace.sh; KINDS is a folder of such traces of one kind each,
# NAME.tok; OUT takes one JSON file a run, for plot_trace.py. About 15 minutes. Shares do not depend on
# what else the machine does; rates do.
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: trace_sweep.sh TRACE KINDS OUT" >&2; exit 2; }
trace=$1 kinds=$2 out=$3
cd "$(dirname "$0")/../../.."
mkdir -p "$out"
run() {
  local name=$1
  shift
  echo "$name" >&2
  build/release/bin/engram-bench trace --rows 1000000 --rounds 1 --guess-steps 0 --seconds 0.1 "$@" \
    >"$out/$name.json" 2>"$out/$name.log" || { cat "$out/$name.log" >&2; exit 1; }
}

for chunk in 64 256 1024 4096 8192 32768; do
  run "chunk-$chunk" --trace "$trace" --chunk "$chunk" --only dedup,dedup_cache_512mb
done
run caches --trace "$trace" --cache-mb 32,64,128,256,512,1000,2000,4000 --only "$(
  printf 'dedup,'
  printf 'dedup_cache_%smb,' 32 64 128 256 512 1000 2000 4000
)"
for kind in "$kinds"/*.tok; do
  run "kind-$(basename "$kind" .tok)" --trace "$kind" --only dedup,dedup_cache_512mb
done
