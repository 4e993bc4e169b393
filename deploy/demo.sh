#!/usr/bin/env bash
# The whole way on one machine: makes a checkpoint in the layout of DeepSeek-V4.1-Flash (small
# tables, the real tokenizer), serves it from four memory servers on loopback, runs an inference
# worker against them on real text, and compares every row with the checkpoint.
# Needs Debian 12; installs and builds what is missing. The last line on standard output is one JSON
# object with the figures. Stops all it started, also when it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly shards=4
readonly bucket_floor=20000  # rows of a hash column; the real model's is 16,000,000
readonly bin=build/release/bin
readonly trace=deploy/data/kjv.tok

work=""
pids=()

say() { printf '%s\n' "$*"; }
fail() {
  echo "error: $*" >&2
  exit 1
}

# What the parts had to say, for whoever reads why it failed.
show_logs() {
  local log
  for log in "$work"/*.err; do
    [ ! -s "$log" ] || { echo "--- ${log##*/}"; tail -n 5 "$log"; }
  done
}

stop_everything() {
  local status=$?
  trap - EXIT
  # In a group so that bash does not tell of every one that was killed.
  { for pid in "${pids[@]}"; do kill -KILL "$pid" || true; wait "$pid" || true; done; } 2>/dev/null
  if [ "$status" -ne 0 ]; then
    [ -z "$work" ] || show_logs >&2
    echo "error: the demo failed with status $status; everything it started is stopped" >&2
  fi
  [ -z "$work" ] || rm -rf "$work"
  exit "$status"
}
trap stop_everything EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
  deploy/install-deps.sh
  cmake --preset release >"$work/configure.err" 2>&1 || fail "configuring failed"
  # To standard error: ninja's progress is not the demo's output.
  cmake --build --preset release --target engramd engramctl engram-demo-worker >&2 ||
    fail "building failed"
  rm "$work/configure.err"
}

make_checkpoint() {
  local tokenizer
  tokenizer=$(deploy/fetch-tokenizer.sh | tail -n 1)
  [ -s "$tokenizer" ] || fail "deploy/fetch-tokenizer.sh gave no tokenizer"
  "$bin/engramctl" synth --out "$work/checkpoint" --like v41-flash \
    --bucket-floor "$bucket_floor" --tokenizer "$tokenizer" >"$work/synth.err" 2>&1 ||
    fail "engramctl synth failed"
  "$bin/engramctl" digest "$work/checkpoint" >"$work/digest.json" 2>"$work/digest.err" ||
    fail "engramctl digest failed"
  say "checkpoint: $(du -sm "$work/checkpoint" | cut -f1) MB, $(cat "$work/digest.json")"
}

start_server() {  # shard index
  "$bin/engramd" --checkpoint "$work/checkpoint" --shard "$1/$shards" --listen 127.0.0.1:0 \
    --threads 1 --spin-us 20000 \
    >"$work/server$1.out" 2>"$work/server$1.err" &
  pids+=($!)
}

# Waits for the server's `serving` line; prints its address.
address_of() {  # shard index
  local line tries
  for ((tries = 0; tries < 600; tries++)); do
    line=$(grep -m 1 '^serving ' "$work/server$1.out" || true)
    if [[ $line =~ \ listen=([^ ]+) ]]; then
      printf '%s\n' "${BASH_REMATCH[1]}"
      return
    fi
    kill -0 "${pids[$1]}" 2>/dev/null || fail "server $1 ended before it served"
    sleep 0.1
  done
  fail "server $1 did not serve within 60 s"
}

start_servers() {
  local i address
  for ((i = 0; i < shards; i++)); do start_server "$i"; done
  servers=""
  for ((i = 0; i < shards; i++)); do
    address=$(address_of "$i")
    servers+=${servers:+,}$address
    say "$(grep -m 1 '^serving ' "$work/server$i.out")"
  done
}

# SIGTERM drains a server; it then exits 0.
stop_servers() {
  local pid
  for pid in "${pids[@]}"; do kill -TERM "$pid"; done
  for pid in "${pids[@]}"; do wait "$pid" || fail "a server did not exit 0 after SIGTERM"; done
  pids=()
  say "stopped $shards servers"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/engram-demo.XXXXXX")
build
SECONDS=0
make_checkpoint
start_servers

# The worker's own last line is kept for the end.
"$bin/engram-demo-worker" --servers "$servers" --checkpoint "$work/checkpoint" --trace "$trace" \
  >"$work/worker.out" 2>"$work/worker.err" || { cat "$work/worker.out"; fail "the worker failed"; }
sed '$d' "$work/worker.out"

verified=$("$bin/engramctl" verify --servers "$servers" --checkpoint "$work/checkpoint" \
  --seconds 2 2>"$work/verify.err") || fail "engramctl verify failed: $verified"
say "engramctl verify, 2 s of lookups back to back: $verified"

stop_servers
say "done in $SECONDS s"
tail -n 1 "$work/worker.out"
