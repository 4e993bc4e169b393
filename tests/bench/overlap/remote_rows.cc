#include "tests/bench/overlap/remote_rows.h"

namespace engram::bench {

RemoteRows::RemoteRows(Client& client, StepBuffers& buffers, LookupPriority priority,
                       absl::Duration timeout)
    : client_(client), buffers_(buffers), priority_(priority), timeout_(timeout) {
  for (auto& slot : pending_) slot = std::vector<Pending>(client.geometry().layers().size());
}

void RemoteRows::Ask(size_t slot, const StepIds& ids, std::span<const size_t> tables) {
  for (const size_t table : tables) {
    Pending& pending = pending_[slot][table];
    LookupOptions options;
    options.timeout = timeout_;
    options.priority = priority_;
    options.on_done = [&pending](const absl::Status&) {
      pending.arrived.store(Clock::now().time_since_epoch().count(), std::memory_order_release);
    };
    pending.ticket = client_.SubmitRows(
        {{client_.geometry().layers()[table].layer_id, ids[table], buffers_.Rows(slot, table)}},
        options);
  }
}

Arrival RemoteRows::Wait(size_t slot, size_t table) {
  Pending& pending = pending_[slot][table];
  if (!pending.ticket.ok()) return {Clock::now(), pending.ticket.status()};
  const absl::Status status = pending.ticket->Wait(client_.geometry().layers()[table].layer_id);
  *pending.ticket = Ticket();  // on_done has returned when the ticket is gone
  const Clock::rep arrived = pending.arrived.load(std::memory_order_acquire);
  return {Clock::time_point(Clock::duration(arrived)), status};
}

}  // namespace engram::bench
