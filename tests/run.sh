#!/usr/bin/env bash
# Installs what is missing, builds, runs the tests; ends with ctest's own closing lines.
#   tests/run.sh               preset release, everything but the long tests
#   tests/run.sh asan-ubsan    by clang, which sees what locks guard, under AddressSanitizer and
#                              UndefinedBehaviorSanitizer; then the fuzzers, 15 seconds each
#   tests/run.sh tsan          under ThreadSanitizer
#   tests/run.sh aarch64       the core (all but gRPC) cross-compiled for aarch64, under an emulator
#   tests/run.sh full          preset release, the long tests too, packages and images; then the fuzzers,
#                              an hour each
#   tests/run.sh fuzz [S]      the fuzzers, S seconds each (60)
# Labels: `cli`, `demo`, `faults`, `kubernetes` and `monitoring` start built binaries on their own,
# `bench` is of benchmarks (no sanitizer runs: minutes for nothing that the in-process cluster does not cover); `long`
# takes minutes; `packages` installs Debian packages in a system of their own.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-default}
preset=release
targets=()
select=(-LE '^(long|packages)$')
# Parsing the real tokenizer takes minutes under a sanitizer or an emulator and meets nothing that
# the small ones do not.
real_tokenizer='RealTokenizerTest|CopiesTheTokenizer'
case "$mode" in
  default) ;;
  full)
    select=()
    deploy/install-deps.sh full
    ;;
  fuzz)
    deploy/install-deps.sh clang
    exec tests/fuzz/run.sh "${2:-60}"
    ;;
  asan-ubsan | tsan)
    preset=$mode
    if [ "$mode" = asan-ubsan ]; then deploy/install-deps.sh clang; fi
    labels='bench|cli|demo|faults|kubernetes|monitoring|long|packages|python'
    # Where gRPC's own client shares the server's process, and with it gRPC's one epoll set, two tests
    # hang under ThreadSanitizer; with our client, which needs no gRPC, the same server runs.
    left_out="$real_tokenizer|_NOT_BUILT$"
    if [ "$mode" = tsan ]; then labels="$labels|grpc_client"; fi
    targets=(--target engram_tests)
    select=(-LE "^($labels)$" -E "$left_out")
    ;;
  aarch64)
    preset=aarch64
    select=(-E "$real_tokenizer")
    deploy/install-deps.sh aarch64
    deploy/aarch64-sysroot.sh
    ;;
  *)
    echo "error: unknown mode '$mode' (none, asan-ubsan, tsan, aarch64, full or fuzz)" >&2
    exit 2
    ;;
esac

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-suppressions=$PWD/tests/sanitizers/tsan.supp:history_size=4}

# GCC 12's ThreadSanitizer refuses the address layouts of recent kernels; without randomization the
# layout is one that it knows. The build needs it too: it runs test binaries to list their tests.
layout=()
if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
  layout=(setarch "$(uname -m)" -R)
fi

deploy/install-deps.sh
cmake --preset "$preset"
if [ "$mode" = asan-ubsan ]; then  # also what no test is linked with and may have locks, for clang to look at
  mapfile -t objects < <(ninja -C "build/$preset" -t targets all |
    sed -nE 's/^((proto|storage|client|service)\/[^:]*\.o): CXX_COMPILER.*/\1/p')
  targets+=("${objects[@]}")
fi
"${layout[@]}" cmake --build --preset "$preset" "${targets[@]}"
tokenizer=$(deploy/fetch-tokenizer.sh | tail -n 1)
[ -s "$tokenizer" ] || { echo "error: deploy/fetch-tokenizer.sh gave no tokenizer" >&2; exit 1; }
export ENGRAM_TEST_TOKENIZER=$tokenizer

# Up to three tests that fail are run once more, alone: real servers, clients and deadlines share few
# cores with whatever else the machine does. What fails again fails the run; what passes then is named,
# and is a defect of the test to mend. What a sanitizer has reported is never tried again.
run_ctest() {
  local results=build/$preset/Testing/Temporary failed names
  rm -f "$results"/LastTest*.log
  "${layout[@]}" ctest --test-dir "build/$preset" --output-on-failure -j "$(nproc)" "${select[@]}" && return
  [ -s "$results/LastTestsFailed.log" ] || return 8
  failed=$(cut -d: -f2- "$results/LastTestsFailed.log")
  # By name: numbers, which --rerun-failed goes by, are others without `select`.
  names=$(cut -d: -f2- "$results/LastTestsFailed.log" | sed 's/[][().*+?^$|\\]/\\&/g' | paste -sd '|')
  [ "$(wc -l <<<"$failed")" -le 3 ] || return 8
  ! grep -qE 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$results/LastTest.log" || return 8
  printf '\n%s\n' "these failed and run once more, alone:" "$failed"
  "${layout[@]}" ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -R "^($names)\$" || return
  printf '\nUNSTEADY: failed once, passed alone:\n%s\n' "$failed"
}
run_ctest
case "$mode" in
  asan-ubsan) exec tests/fuzz/run.sh 15 ;;
  full) exec tests/run.sh fuzz 3600 ;;
esac
