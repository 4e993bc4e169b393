#include "tests/bench/overlap/local_rows.h"

#include <pthread.h>

#include "proto/base/spin.h"

namespace engram::bench {

LocalRows::LocalRows(const RowStore& store, const Geometry& geometry, StepBuffers& buffers,
                     Clock::duration spin)
    : store_(store), geometry_(geometry), buffers_(buffers), spin_(spin) {
  {
    MutexLock lock(&mutex_);
    for (auto& slot : places_) slot.resize(geometry.layers().size());
  }
  thread_ = std::thread([this] { Run(); });
}

LocalRows::~LocalRows() {
  {
    MutexLock lock(&mutex_);
    ending_ = true;
    changed_.NotifyAll();
  }
  ++asked_;
  thread_.join();
}

void LocalRows::Ask(size_t slot, const StepIds& ids, std::span<const size_t> tables) {
  {
    MutexLock lock(&mutex_);
    for (const size_t table : tables) {
      places_[slot][table].done = false;
      orders_.push_back({slot, table, &ids[table]});
    }
  }
  ++asked_;
  changed_.NotifyAll();  // without the lock: whoever wakes needs it
}

Arrival LocalRows::Wait(size_t slot, size_t table) {
  MutexLock lock(&mutex_);
  while (!places_[slot][table].done) changed_.Wait(&mutex_);
  return places_[slot][table].arrival;
}

bool LocalRows::Next(Order& order) {
  const uint64_t seen = asked_.load();
  {
    MutexLock lock(&mutex_);
    if (orders_.empty() && !ending_ && spin_ > Clock::duration(0)) {
      mutex_.Unlock();
      SpinUntil(absl::FromChrono(spin_),
                [&] { return asked_.load(std::memory_order_relaxed) != seen; });
      mutex_.Lock();
    }
    while (orders_.empty() && !ending_) changed_.Wait(&mutex_);
    if (orders_.empty()) return false;
    order = orders_.front();
    orders_.pop_front();
    return true;
  }
}

Arrival LocalRows::Gather(const Order& order) {
  // The same bits; -1, no row, is the store's id of all ones.
  const std::span<const uint64_t> ids(reinterpret_cast<const uint64_t*>(order.ids->data()),
                                      order.ids->size());
  const uint32_t layer = geometry_.layers()[order.table].layer_id;
  absl::Status status = store_.Check(layer, ids);
  if (status.ok()) {
    uint8_t* const out = buffers_.Rows(order.slot, order.table).data();
    status = store_.Gather(layer, ids, out, nullptr);
  }
  return {Clock::now(), std::move(status)};
}

void LocalRows::Run() {
  pthread_setname_np(pthread_self(), "local-table");
  Order order{};
  while (Next(order)) {
    Arrival arrival = Gather(order);
    MutexLock lock(&mutex_);
    places_[order.slot][order.table] = {true, std::move(arrival)};
    changed_.NotifyAll();
  }
}

}  // namespace engram::bench
