#!/usr/bin/env bash
# run.sh [SECONDS [NAME...]]: builds the fuzzers, or those named, and runs each for SECONDS (60), as many at a time as there
# are cores, on a copy of its corpus and of what was found before. One line a fuzzer; what failed is kept in
# build/fuzz/artifacts, what reached further by keep.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
names=("${@:2}")
if [ ${#names[@]} -eq 0 ]; then
  mapfile -t names < <(find tests/fuzz/corpus -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort)
fi

cmake --preset asan-ubsan
targets=()
for name in "${names[@]}"; do targets+=(--target "${name}_fuzz"); done
cmake --build --preset asan-ubsan "${targets[@]}"
tried=$PWD/build/fuzz/tried
artifacts=$PWD/build/fuzz/artifacts
rm -rf "$tried"
mkdir -p "$tried" "$artifacts"

run_one() {
  local name=$1 dictionary=() log=$tried/$1.log
  cp -r "tests/fuzz/corpus/$name" "$tried/$name"
  if [ -d "tests/fuzz/found/$name" ]; then cp -r "tests/fuzz/found/$name/." "$tried/$name"; fi
  [ -f "tests/fuzz/corpus/$name.dict" ] && dictionary=(-dict="tests/fuzz/corpus/$name.dict")
  if "build/asan-ubsan/bin/${name}_fuzz" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
    -print_final_stats=1 -artifact_prefix="$artifacts/$name-" "${dictionary[@]}" "$tried/$name" \
    >"$log" 2>&1; then
    local runs edges
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -nE 's/.*DONE *cov: ([0-9]+).*/\1/p' "$log")
    echo "fuzz $name: $runs runs, $edges edges covered, no finding"
  else
    echo "fuzz $name: FAILED"
    tail -n 40 "$log"
    return 1
  fi
}
export -f run_one
export tried artifacts seconds
printf '%s\n' "${names[@]}" | xargs -P "$(nproc)" -I{} bash -c 'run_one {}'
