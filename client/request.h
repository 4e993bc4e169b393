// What is asked of servers, while it is asked.
#ifndef ENGRAM_CLIENT_REQUEST_H_
#define ENGRAM_CLIENT_REQUEST_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/lookup.h"
#include "client/scatter.h"
#include "proto/range_map.h"

namespace engram {

struct Attempt;

// Rows [begin, end) of a layer's plan (of its ids, where it needs none), to be had from any one
// server that holds `segment`.
//
// Invariants
// 1. A part is done once: when the first of its attempts has been answered, or when the last one
//    that could has failed. Rows that an answer names as lost become parts of their own, before. It
//    is counted in the layer's `requests` until then.
// 2. One attempt at a time writes rows to their places, from the part's first row on; only the one
//    that writes can answer the part. None writes after the part, or its layer, is done: the
//    buffer is the caller's again.
struct Part {
  Part(std::shared_ptr<Lookup> its_lookup, LookupLayer& its_layer, RowRange its_segment,
       size_t from, size_t to)
      : lookup(std::move(its_lookup)),
        layer(its_layer),
        segment(its_segment),
        begin(from),
        end(to) {}

  size_t rows() const { return end - begin; }
  // Whether its rows are still waited for.
  bool wanted() const { return !done && !layer.done.load(std::memory_order_relaxed); }

  const std::shared_ptr<Lookup> lookup;
  LookupLayer& layer;
  const RowRange segment;
  const size_t begin, end;
  bool done = false;
  bool replicated = false;                 // more than one server holds its rows
  bool hedged = false;                     // a second server was asked because the first took long
  uint32_t attempts = 0;                   // that have not ended
  Attempt* writer = nullptr;               // whose rows are written to their places; null: nobody's
  absl::InlinedVector<size_t, 4> tried;    // servers
  absl::InlinedVector<size_t, 4> lost_by;  // servers that could not read its rows
  absl::Status error;                      // of the attempt that ended last
};

// One part, asked of one server: waiting for credit or in flight on one lane.
struct Attempt {
  enum class Kind {
    kFirst,  // of its part
    kRetry,  // in the place of one that failed
    kHedge,  // beside one that takes long
    kTrial,  // beside one, for the sake of a server on probation: runs to its end
  };

  Attempt(std::shared_ptr<Part> its_part, size_t its_server, Kind its_kind, RowScatter its_scatter)
      : part(std::move(its_part)), server(its_server), kind(its_kind), scatter(its_scatter) {}

  const std::shared_ptr<Part> part;
  const size_t server;
  const Kind kind;
  RowScatter scatter;
  absl::Time sent;                 // unset: it waits
  uint64_t bytes_outstanding = 0;  // on its lane when it was sent, its own included
  uint32_t next_piece = 0;
  bool checked = false;             // its rows are to be held against their checksums
  std::vector<uint32_t> checksums;  // of the piece that is coming
  std::vector<size_t> lost;         // rows of the part that the server could not read
  absl::Status lost_why;            // of the first of them
  absl::Status failure;             // it has failed, and nothing of it is taken any more
  bool overtaken = false;           // its rows are not, or not all, in place, and never will be
};

}  // namespace engram

#endif  // ENGRAM_CLIENT_REQUEST_H_
