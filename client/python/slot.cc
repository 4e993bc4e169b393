#include "client/python/slot.h"

#include <algorithm>
#include <string>
#include <utility>

#include "client/python/arrays.h"
#include "client/python/look_back.h"
#include "client/python/lookup.h"
#include "client/python/prefetch.h"

namespace py = pybind11;

namespace engram::python {
namespace {

bool IsHeadMajor(py::handle order) {
  if (order.equal(py::str("token"))) return false;
  if (order.equal(py::str("head"))) return true;
  throw py::value_error("order is " + std::string(py::repr(order)) + ", not \"token\" or \"head\"");
}

// The caller's buffers of the slot's layers.
class Memory {
 public:
  Memory(py::handle memory, py::handle words, bool split_scales) {
    if (!memory.is_none()) {
      for (const py::handle layer : py::iter(memory)) Add(layer, split_scales);
      if (layers_.empty()) throw py::value_error("memory is of no layer");
    }
    if (!words.is_none()) SetWords(AsArray(words, "words"));
    use_.Check();
  }
  const std::vector<engram_layer_memory>& layers() const { return layers_; }
  uint64_t* words() const { return words_; }
  size_t word_count() const { return word_count_; }
  std::vector<py::object> TakeArrays() { return std::move(arrays_); }

 private:
  void Add(py::handle layer, bool split_scales) {
    const std::string name = "memory[" + std::to_string(layers_.size()) + "]";
    if (!split_scales) {
      const py::array rows = Take(layer, name);
      layers_.push_back({BytesOf(rows), static_cast<size_t>(rows.size()), nullptr, 0});
      return;
    }
    if (!py::isinstance<py::tuple>(layer) || py::len(layer) != 2) {
      throw py::type_error(name + " is no pair (values, scales), which split_scales needs");
    }
    const auto pair = py::reinterpret_borrow<py::tuple>(layer);
    const py::array values = Take(pair[0], name + "[0]"), scales = Take(pair[1], name + "[1]");
    layers_.push_back({BytesOf(values), static_cast<size_t>(values.size()), BytesOf(scales),
                       static_cast<size_t>(scales.size())});
  }
  py::array Take(py::handle object, const std::string& name) {
    const py::array array = AsOutput(object, name);
    use_.Writes(array, name);
    arrays_.push_back(array);
    return array;
  }
  void SetWords(const py::array& words) {
    const py::dtype dtype = words.dtype();
    const bool is_words = (dtype.kind() == 'u' || dtype.kind() == 'i') && dtype.itemsize() == 8;
    if (!is_words) throw py::type_error("words is not of uint64");
    if (words.ndim() != 1 || (words.flags() & py::array::c_style) == 0 || !words.writeable()) {
      throw py::value_error("words is not a dense, writable array of one dimension");
    }
    use_.Writes(words, "words");
    words_ = static_cast<uint64_t*>(const_cast<void*>(words.data()));
    word_count_ = static_cast<size_t>(words.size());
    arrays_.push_back(words);
  }

  MemoryUse use_;
  std::vector<engram_layer_memory> layers_;
  uint64_t* words_ = nullptr;
  size_t word_count_ = 0;
  std::vector<py::object> arrays_;
};

}  // namespace

Slot::Slot(const Client& client, const SlotArgs& args)
    : handle_(client.handle),
      max_tokens_(args.max_tokens),
      all_columns_(client.table.columns),
      columns_(ToColumns(args.columns)),
      layers_(ToLayers(args.layers)),
      head_major_(IsHeadMajor(args.order)),
      row_width_(args.split_scales ? client.table.value_bytes : client.table.row_bytes),
      scales_width_(args.split_scales ? client.table.scales : 0) {
  Memory memory(args.memory, args.words, args.split_scales);
  engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;
  options.layers = layers_.data();
  options.layer_count = layers_.size();
  options.columns = columns_;
  options.max_tokens = max_tokens_;
  options.order = head_major_ ? ENGRAM_HEAD_MAJOR : ENGRAM_TOKEN_MAJOR;
  options.split_scales = args.split_scales ? 1 : 0;
  options.caller_resets_words = args.caller_resets_words ? 1 : 0;
  options.memory = memory.layers().data();
  options.memory_count = memory.layers().size();
  options.words = memory.words();
  options.word_count = memory.word_count();
  handle_->Call([&](client::Client& connected) -> client::Status {
    auto made = connected.MakeSlot(options);
    if (!made.ok()) return made.status();
    slot_ = std::move(*made);
    return {};
  });
  memory_ = memory.TakeArrays();
  if (layers_.empty()) layers_ = client.table.layers;
  if (columns_.end == 0) columns_ = {0, all_columns_};
}

Slot::~Slot() {
  WithoutGil([this] { const client::Slot ended = std::move(slot_); });
}

template <typename Submit>
void Slot::Take(Submit&& submit, std::vector<py::object>& borrowed) {
  Check(WithoutGil([&] {
    const std::lock_guard lock(mutex_);
    client::Status said = submit();
    if (said.ok()) borrowed_.swap(borrowed);
    return said;
  }));
}

void Slot::SubmitIds(const std::vector<py::object>& ids, py::handle mask, bool per_column,
                     bool own_columns, const LookupOptions& options) {
  if (ids.size() != layers_.size()) {
    throw py::value_error("ids are of " + std::to_string(ids.size()) + " layers, the slot has " +
                          std::to_string(layers_.size()));
  }
  const py::array flags = AsFlags(mask, "mask", false);
  std::vector<py::object> borrowed{flags, options.degraded()};
  std::vector<engram_layer_ids> layers;
  engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string name = "ids of layer " + std::to_string(layers_[i]);
    const py::array array = AsIds(ids[i], name);
    const engram_layer_ids layer =
        ToLayerIds(array, own_columns ? this->own_columns() : all_columns_, name);
    const auto tokens = static_cast<uint32_t>(array.shape(0));
    if (i > 0 && tokens != step.tokens) {
      throw py::value_error(name + " has " + std::to_string(tokens) + " tokens, other layers " +
                            std::to_string(step.tokens));
    }
    step.tokens = tokens;
    layers.push_back(layer);
    borrowed.push_back(array);
  }
  if (flags) {
    CheckShape(flags, {py::ssize_t{step.tokens}}, "mask");
    step.mask = BytesOf(flags);
    step.mask_count = step.tokens;
  }
  step.layers = layers.data();
  step.layer_count = layers.size();
  step.per_column = per_column ? 1 : 0;
  step.own_columns = own_columns ? 1 : 0;
  Take([&] { return slot_.SubmitIds(step, options.get()); }, borrowed);
}

void Slot::SubmitTokens(py::handle chunks, const LookupOptions& options) {
  std::vector<py::object> borrowed{options.degraded()};
  std::vector<engram_chunk> made;
  for (const py::handle item : py::iter(chunks)) {
    const std::string name = "chunks[" + std::to_string(made.size()) + "]";
    if (!py::isinstance<py::tuple>(item) || py::len(item) < 2 || py::len(item) > 3) {
      throw py::type_error(name + " is none of (tokens, look_back), (tokens, look_back, dead), " +
                           "(prefetch, first, count)");
    }
    const auto parts = py::reinterpret_borrow<py::tuple>(item);
    engram_chunk chunk{};
    if (py::isinstance<Prefetch>(parts[0])) {
      if (parts.size() != 3) throw py::type_error(name + " is not (prefetch, first, count)");
      chunk = parts[0].cast<const Prefetch&>().get().Range(parts[1].cast<size_t>(),
                                                           parts[2].cast<size_t>());
    } else {
      if (!py::isinstance<LookBack>(parts[1])) {
        throw py::type_error(name + "[1] is a " + Py_TYPE(parts[1].ptr())->tp_name +
                             ", not a LookBack");
      }
      const py::array tokens = AsTokens(parts[0], name + "[0]");
      chunk.tokens = static_cast<const uint32_t*>(tokens.data());
      chunk.token_count = static_cast<size_t>(tokens.size());
      chunk.state = &parts[1].cast<LookBack&>().state;
      borrowed.push_back(tokens);
      if (parts.size() == 3 && !parts[2].is_none()) {
        const py::array dead = AsFlags(parts[2], name + "[2]", false);
        CheckShape(dead, {tokens.shape(0)}, name + "[2]");
        chunk.dead = BytesOf(dead);
        borrowed.push_back(dead);
      }
    }
    borrowed.push_back(parts);  // the states and prefetches
    made.push_back(chunk);
  }
  Take([&] { return slot_.SubmitTokens(made, options.get()); }, borrowed);
}

bool Slot::IsDone(std::optional<uint32_t> layer) const {
  if (layer) return slot_.Done(*layer);
  return std::all_of(layers_.begin(), layers_.end(),
                     [this](uint32_t each) { return slot_.Done(each); });
}

void Slot::Wait(std::optional<uint32_t> layer, const Until& until) {
  const auto wait = [&](int64_t slice_us) {
    const std::shared_lock lock(mutex_);
    const client::Timeout slice(slice_us);
    return layer ? slot_.Wait(*layer, slice) : slot_.WaitAll(slice);
  };
  const auto done = [&] {
    const std::shared_lock lock(mutex_);
    return IsDone(layer);
  };
  WaitInSlices(until, wait, done);
}

bool Slot::Done(std::optional<uint32_t> layer) const {
  return WithoutGil([&] {
    const std::shared_lock lock(mutex_);
    return IsDone(layer);
  });
}

void Slot::Cancel() const {
  Check(WithoutGil([&] {
    const std::shared_lock lock(mutex_);
    return slot_.Cancel();
  }));
}

engram_slot_layer_info Slot::Layer(uint32_t layer) const {
  const auto info = slot_.Layer(layer);
  if (!info.ok()) Check(info.status());
  return *info;
}

py::array Slot::View(py::handle self, uint8_t* data, std::optional<uint32_t> tokens,
                     uint32_t width) const {
  const uint32_t count = tokens.value_or(max_tokens_);
  if (count > max_tokens_) {
    throw py::value_error("tokens is " + std::to_string(count) + ", the slot has " +
                          std::to_string(max_tokens_));
  }
  std::vector<py::ssize_t> shape{count, own_columns(), width};
  if (head_major_) std::swap(shape[0], shape[1]);
  return {py::dtype::of<uint8_t>(), shape, data, self};
}

py::array Slot::Rows(py::handle self, uint32_t layer, std::optional<uint32_t> tokens) const {
  return View(self, Layer(layer).rows, tokens, row_width_);
}

py::object Slot::Scales(py::handle self, uint32_t layer, std::optional<uint32_t> tokens) const {
  uint8_t* const scales = Layer(layer).scales;
  if (scales == nullptr) return py::none();
  return View(self, scales, tokens, scales_width_);
}

py::array Slot::Words(py::handle self) const {
  return {py::dtype::of<uint64_t>(),
          {static_cast<py::ssize_t>(layers_.size())},
          Layer(layers_[0]).word,
          self};
}

}  // namespace engram::python
