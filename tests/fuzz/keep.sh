#!/usr/bin/env bash
# keep.sh [NAME...]: of what the last run.sh has tried, keeps in found/NAME what reaches further than all that is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  mapfile -t names < <(find build/fuzz/tried -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort)
fi
for name in "${names[@]}"; do
  kept=$(mktemp -d)
  cp tests/fuzz/corpus/"$name"/* "$kept"
  mkdir -p "tests/fuzz/found/$name"
  find "tests/fuzz/found/$name" -type f -exec cp -t "$kept" {} +
  # By what is reached, not by how often: a tenth of the files.
  "build/asan-ubsan/bin/${name}_fuzz" -merge=1 -use_counters=0 "$kept" "build/fuzz/tried/$name" >/dev/null 2>&1
  find "$kept" -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -exec cp -t "tests/fuzz/found/$name" {} +
  rm -r "$kept"
  echo "$name: $(find "tests/fuzz/found/$name" -type f | wc -l) kept"
done
