// What lookups cost, by measurement. Everything of `engramctl plan` and `simulate` that was
// measured and not derived stands here, each with the command that measured it; another machine has
// others, and flags (deploy/engramctl/sizing_flags.h) for them. Beside them: sizes and times that
// programs and kernels fix by construction.
#ifndef ENGRAM_DEPLOY_SIZING_COSTS_H_
#define ENGRAM_DEPLOY_SIZING_COSTS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace engram::sizing {

// Two shared x86-64 cores, loopback, 264-byte rows, no TLS. The cost of a request of n rows is
// taken for request + n * row: `engram-bench gather --batch 16` and `--batch 16384` (`--spin-us
// 1000 --depth 4`, server on core 0 and client on core 1 by taskset) give CPU seconds a GB of both
// sides, two equations for two unknowns of each. deploy/SIZING.md, "Measure your own", has the
// commands.
inline constexpr double kServerRequestUs = 6.9;
inline constexpr double kServerRowNs = 45;
inline constexpr double kClientRequestUs = 6.9;
inline constexpr double kClientRowNs = 45;
// What a lookup takes beside its requests and rows, whatever its size: to the client's I/O thread,
// through two kernels, back to who waits. The stall of a layer of 24 rows when it is fetched as
// needed (`engram-bench overlap --shapes decode-1-sm100`, `needed.stall_us_p50`), less its request
// and rows on both sides. Threads that poll (client and server, --spin-us above the step's time).
inline constexpr double kLookupUs = 19;
// The same with threads that sleep, each of which must be woken: such a layer takes 120 us
// (client/README.md, "How long layers wait"; `--spin-us 0 --server-spin-us 0`).
inline constexpr double kSleepingLookupUs = 104;
// Of an answer, so much has passed one side before the other begins: what makes the stall of a
// layer of 9,216 rows (`engram-bench overlap --shapes verify-64x6-12ms`, `needed.stall_us_p50`).
inline constexpr double kOverlapBytes = 1 << 20;

// `tests/bench/tls_cost.py`, 4,096 rows: CPU with certificates on both sides over that without.
inline constexpr double kTlsServerFactor = 2.6;
inline constexpr double kTlsClientFactor = 3.2;

// Share of the rows of a prefill chunk that travel where what repeats within it is fetched once
// (`engram-bench trace --chunk T --cache-mb 0`; client/README.md, "What need not be fetched").
// Decode steps repeat next to nothing. In between by the logarithm of the tokens.
struct WireShare {
  double tokens;
  double share;
};
inline constexpr WireShare kWireShares[] = {{64, 0.93},   {256, 0.82},  {1024, 0.74},
                                            {4096, 0.69}, {8192, 0.67}, {32768, 0.64}};
double PrefillWireShare(uint64_t tokens);

// What is so by construction.
inline constexpr uint64_t kChecksumBytes = 4;        // of every row, beside it in memory
inline constexpr uint64_t kProcessBytes = 64 << 20;  // of a server without rows
inline constexpr uint64_t kPieceBytes = 256 << 10;   // answers leave in such (service/)
inline constexpr uint64_t kPieceBytesBesideDecode = 64 << 10;
inline constexpr uint64_t kRowsPerRequest = 16384;  // at most (client/options.h)
inline constexpr uint64_t kIdBytes = 4;             // of a row that is asked for
// Ethernet's frame, preamble and gap, IP and TCP with timestamps at an MTU of 1,500 bytes: 1,538
// bytes on the wire for 1,448 of ours.
inline constexpr double kWireOverhead = 1538.0 / 1448;
// A connection that answers nothing is given up after that: client/server_link.cc.
inline constexpr double kSilentSeconds = 30 + 5;
// The kernel's defaults for a CPU quota (kernel/sched/fair.c): its period, and of what a period
// leaves, what each CPU keeps (min_cfs_rq_runtime; since Linux 5.4 it does not expire).
inline constexpr double kQuotaPeriodSeconds = 0.1;
inline constexpr double kQuotaCarrySeconds = 0.001;

// What plan and simulate reckon with: the constants above, or flags.
struct Costs {
  double server_request_us = kServerRequestUs;
  double server_row_ns = kServerRowNs;
  double client_request_us = kClientRequestUs;
  double client_row_ns = kClientRowNs;
  double lookup_us = kLookupUs;

  // The same with mTLS.
  Costs WithTls() const;
  double ServerSeconds(double requests, double rows) const {
    return requests * server_request_us * 1e-6 + rows * server_row_ns * 1e-9;
  }
  double ClientSeconds(double requests, double rows) const {
    return requests * client_request_us * 1e-6 + rows * client_row_ns * 1e-9;
  }
  // InvalidArgument naming the flag: negative, not a number, or nothing that costs a server time.
  absl::Status Validate() const;
};

struct Network {
  double nic_gbit = 100;  // of every server and client, each way
  double rtt_us = 30;

  // How long bytes of ours take on one link.
  double Seconds(double bytes) const { return bytes * kWireOverhead * 8 / (nic_gbit * 1e9); }
  // InvalidArgument naming the flag.
  absl::Status Validate() const;
};

}  // namespace engram::sizing

#endif  // ENGRAM_DEPLOY_SIZING_COSTS_H_
