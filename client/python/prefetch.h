// Prefetches as Python objects.
#ifndef ENGRAM_CLIENT_PYTHON_PREFETCH_H_
#define ENGRAM_CLIENT_PYTHON_PREFETCH_H_

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "client/python/handle.h"
#include "client/python/look_back.h"

namespace engram::python {

class Prefetch {
 public:
  // As engram_prefetch_start, which borrows nothing.
  Prefetch(std::shared_ptr<Handle> handle, pybind11::handle tokens, LookBack& look_back,
           pybind11::handle dead, pybind11::handle layers, pybind11::handle columns,
           pybind11::handle priority, std::optional<double> timeout);
  ~Prefetch();

  void Wait(const Until& until);
  LookBack StateAt(size_t tokens);
  std::pair<size_t, uint64_t> Size();  // tokens, bytes
  // For steps that take of it, while it lives.
  const client::Prefetch& get() const { return prefetch_; }

 private:
  const std::shared_ptr<Handle> handle_;
  ForkedMutex<std::mutex> mutex_;  // one thread at a time, but for steps that take of it
  client::Prefetch prefetch_;
  Until::Clock::time_point over_;  // its own timeout
};

void BindPrefetch(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_PREFETCH_H_
