#!/usr/bin/env bash
# The whole way on one machine: serves the tables of a small language model from four memory servers
# on loopback and runs the model against them: it writes a text and reads another, with rows fetched
# ahead and as needed, and every row and every logit is compared with those by the checkpoint itself.
#   deploy/demo.sh [flags of engram-demo-worker, as --bytes 8192: read less]
# Needs Debian 12; installs and builds what is missing (not with ENGRAM_BIN_DIR: binaries that are
# there). The last line on standard output is one JSON object with the figures. Stops all it started,
# also when it fails.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly shards=4
readonly bin=${ENGRAM_BIN_DIR:-build/release/bin}
readonly model=deploy/model/kjv
readonly twin=deploy/model/kjv-without-memory

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
  [ -z "${ENGRAM_BIN_DIR:-}" ] || return 0
  deploy/install-deps.sh
  cmake --preset release >"$work/configure.err" 2>&1 || fail "configuring failed"
  # To standard error: ninja's progress is not the demo's output.
  cmake --build --preset release --target engramd engramctl engram-demo-worker >&2 ||
    fail "building failed"
  rm "$work/configure.err"
}

start_server() {  # shard index
  "$bin/engramd" --checkpoint "$model" --shard "$1/$shards" --listen 127.0.0.1:0 --threads 1 \
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
start_servers

# The worker's own last line is kept for the end.
"$bin/engram-demo-worker" --servers "$servers" --model "$model" --twin "$twin" \
  --text "$model/held_out.txt" "$@" >"$work/worker.out" 2>"$work/worker.err" ||
  { cat "$work/worker.out"; fail "the worker failed"; }
sed '$d' "$work/worker.out"

verified=$("$bin/engramctl" verify --servers "$servers" --checkpoint "$model" --seconds 2 \
  2>"$work/verify.err") || fail "engramctl verify failed: $verified"
say "engramctl verify, 2 s of lookups back to back: $verified"

stop_servers
say "done in $SECONDS s"
tail -n 1 "$work/worker.out"
