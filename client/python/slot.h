// Slots as Python objects.
#ifndef ENGRAM_CLIENT_PYTHON_SLOT_H_
#define ENGRAM_CLIENT_PYTHON_SLOT_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <vector>

#include "client/python/client.h"
#include "client/python/options.h"
#include "client/python/ticket.h"

namespace engram::python {

// How a slot is made; as Slot's keywords.
struct SlotArgs {
  uint32_t max_tokens = 0;
  pybind11::object layers, columns, order, memory, words;
  bool split_scales = false, caller_resets_words = false;
};

// Safe from any number of threads: submits exclude other calls on the slot, as the C ABI asks.
// `borrowed_` is what the step under way reads; it changes only when another step has been taken,
// for then the one before is done.
class Slot {
 public:
  Slot(const Client& client, const SlotArgs& args);
  ~Slot();

  // `ids`: one array a layer of the slot, in their order.
  void SubmitIds(const std::vector<pybind11::object>& ids, pybind11::handle mask, bool per_column,
                 bool own_columns, const LookupOptions& options);
  // `chunks`: (tokens, look_back), (tokens, look_back, dead) or (prefetch, first, count).
  void SubmitTokens(pybind11::handle chunks, const LookupOptions& options);
  void Wait(std::optional<uint32_t> layer, const Until& until);
  bool Done(std::optional<uint32_t> layer) const;
  void Cancel() const;

  // Views of the slot's memory, whose owner is `self`. EngramError NOT_FOUND: not the slot's layer.
  pybind11::array Rows(pybind11::handle self, uint32_t layer, std::optional<uint32_t> tokens) const;
  pybind11::object Scales(pybind11::handle self, uint32_t layer,
                          std::optional<uint32_t> tokens) const;
  pybind11::array Words(pybind11::handle self) const;

  const std::vector<uint32_t>& layers() const { return layers_; }
  std::pair<uint32_t, uint32_t> columns() const { return {columns_.begin, columns_.end}; }
  uint32_t max_tokens() const { return max_tokens_; }

 private:
  // Runs `submit` -> client::Status alone; where it is taken, `borrowed` is kept.
  template <typename Submit>
  void Take(Submit&& submit, std::vector<pybind11::object>& borrowed);
  bool IsDone(std::optional<uint32_t> layer) const;  // under mutex_
  engram_slot_layer_info Layer(uint32_t layer) const;
  uint32_t own_columns() const { return columns_.end - columns_.begin; }
  // [tokens, columns, width], or heads first.
  pybind11::array View(pybind11::handle self, uint8_t* data, std::optional<uint32_t> tokens,
                       uint32_t width) const;

  const std::shared_ptr<Handle> handle_;
  const uint32_t max_tokens_, all_columns_;
  engram_columns columns_;
  std::vector<uint32_t> layers_;
  bool head_major_ = false;
  uint32_t row_width_ = 0, scales_width_ = 0;
  std::vector<pybind11::object> memory_;  // the caller's, where it has brought it
  std::vector<pybind11::object> borrowed_;
  mutable ForkedMutex<std::shared_mutex> mutex_;  // alone: submits; shared: waits, done, cancel
  mutable client::Slot slot_;
};

void BindSlot(pybind11::module_& module);

}  // namespace engram::python

#endif  // ENGRAM_CLIENT_PYTHON_SLOT_H_
