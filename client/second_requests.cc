// What Dispatch does about servers that take long: who is late, who is silent, whom else to ask.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/dispatch.h"

namespace engram {

absl::Duration Dispatch::LateAfter(const Part& part, std::optional<size_t> but) {
  absl::Duration late = absl::InfiniteDuration();
  for (const size_t holder : servers_.HoldersOf(part.segment)) {
    if (holder == but || !servers_.health(holder).healthy()) continue;
    late = std::min(late, servers_.answer_times(holder).LateAfter(part.rows()));
  }
  return std::max(late, options_.hedge_after_least);
}

// Where all servers were put aside, one of them may have stopped to answer: their measure is better
// than none. Where there is none, a quarter of the part's time is.
absl::Duration Dispatch::HedgeAfter(const Part& part, absl::Time sent) {
  absl::Duration after = LateAfter(part, std::nullopt);
  if (after != absl::InfiniteDuration()) return after;
  for (const size_t holder : servers_.HoldersOf(part.segment)) {
    after = std::min(after, servers_.answer_times(holder).LateAfter(part.rows()));
  }
  if (after == absl::InfiniteDuration()) after = (part.lookup->deadline - sent) / 4;
  return std::max(after, options_.hedge_after_least);
}

void Dispatch::Hedge(const std::shared_ptr<Part>& part, bool also_aside) {
  const absl::StatusOr<size_t> server = servers_.Pick(
      part->lookup->priority, part->segment, servers_.HoldersOf(part->segment), part->tried);
  if (!server.ok() || (!also_aside && !servers_.health(*server).healthy())) return;
  part->hedged = true;
  Ask(part, *server, Attempt::Kind::kHedge);
}

void Dispatch::Strike(size_t server) {
  if (!servers_.health(server).OnStrike(absl::Now())) return;
  StatsCounters::Add(stats_.ejections, 1);
  servers_.ShowHealth();
  if (options_.log) {
    options_.log(absl::StrCat("server ", servers_.label(server),
                              " is put aside: it is slow or fails, others hold its rows"));
  }
  Rescue(server);
}

void Dispatch::Rescue(size_t server) {
  std::vector<std::shared_ptr<Part>> late;
  for (const LookupPriority priority : {LookupPriority::kDecode, LookupPriority::kPrefill}) {
    const Lane& lane = servers_.LaneTo(server, priority);
    for (const auto& [id, attempt] : lane.in_flight) late.push_back(attempt->part);
    for (const auto& attempt : lane.waiting) late.push_back(attempt->part);
  }
  for (const std::shared_ptr<Part>& part : late) {
    if (part->wanted() && !part->hedged && part->attempts == 1) Hedge(part, /*also_aside=*/false);
  }
}

std::optional<size_t> Dispatch::SilentServer(const Part& part) {
  std::optional<size_t> silent;
  servers_.ForEachLane([&](const Lane& lane) {
    const size_t server = servers_.ServerOf(lane);
    for (const auto& [id, attempt] : lane.in_flight) {
      if (attempt->part.get() == &part && attempt->next_piece == 0 &&
          servers_.answered_at(server) < attempt->sent) {
        silent = server;
      }
    }
  });
  return silent;
}

void Dispatch::Tick(absl::Time now) {
  servers_.Tick(now);
  while (!due_.empty() && due_.top().at <= now) {
    SecondRequest due = due_.top();
    due_.pop();
    if (!due.part->wanted() || due.part->hedged || due.part->attempts != 1) continue;
    if (hedge_budget_.Spend()) {
      Hedge(due.part, /*also_aside=*/true);
      continue;
    }
    if (const std::optional<size_t> silent = SilentServer(*due.part); silent.has_value()) {
      Strike(*silent);
      if (++due.silences >= ServerHealth::kStrikes && !due.part->hedged) {
        Hedge(due.part, /*also_aside=*/true);
      }
    } else {
      due.silences = 0;
      due.after *= 2;
    }
    due.after = std::max(due.after, absl::Milliseconds(1));
    due.at = now + due.after;
    due_.push(std::move(due));
  }
}

}  // namespace engram
