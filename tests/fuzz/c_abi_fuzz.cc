// Calls of the C ABI with arguments of all kinds, on a client that is connected to a real server.
// Pointers are to memory that is as long as the header asks for: what the library cannot know is
// the caller's to keep. Rows of whatever is said to be in place are compared.
#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "client/c/engram_client.h"
#include "tests/cluster/fake_cluster.h"
#include "tests/fuzz/memory_file.h"

namespace engram {
namespace {

constexpr size_t kMaxTokens = 40;
constexpr size_t kMaxIds = 64;
constexpr int64_t kPatience = 5'000'000;  // microseconds

// The input, taken from the front; zeros once it is used up.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  template <typename T>
  T Take() {
    T value{};
    const size_t count = std::min(sizeof(T), size_);
    std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }
  uint8_t Below(uint8_t bound) { return static_cast<uint8_t>(Take<uint8_t>() % bound); }
  // Mostly what is right.
  template <typename T>
  T Or(T right) {
    return Take<uint8_t>() % 8 == 0 ? Take<T>() : right;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

bool Fine(engram_status* status) {
  const engram_code code = engram_status_code(status);
  Require((code == ENGRAM_OK) == (status == nullptr));
  if (status != nullptr) Require(*engram_status_message(status) != '\0');
  // What only a defect of the library would be.
  Require(code != ENGRAM_INTERNAL && code != ENGRAM_UNKNOWN);
  engram_status_free(status);
  return code == ENGRAM_OK;
}

class Run {
 public:
  explicit Run(Input input) : input_(input) {}
  ~Run() {
    engram_ticket_destroy(ticket_);
    engram_prefetch_destroy(prefetch_);
    engram_slot_destroy(slot_);
  }

  void Go() {
    Require(Fine(engram_ticket_create(&ticket_)));
    for (int calls = 0; calls < 12 && !input_.empty(); ++calls) {
      switch (input_.Below(8)) {
        case 0:
          SubmitRows();
          break;
        case 1:
          SubmitIds();
          break;
        case 2:
          SubmitTokens();
          break;
        case 3:
          CreateSlot();
          break;
        case 4:
          SubmitToSlot();
          break;
        case 5:
          StartPrefetch();
          break;
        case 6:
          Dequantize();
          break;
        case 7:
          Ask();
      }
    }
  }

 private:
  static engram_client* client() {
    // Ends with the process, whose threads go first.
    static engram_client* const client = [] {
      static FakeCluster& cluster = *new FakeCluster(2);
      engram_client_options options = ENGRAM_CLIENT_OPTIONS_INIT;
      const std::vector<std::string> addresses = cluster.addresses();
      const std::array<const char*, 2> servers = {addresses[0].c_str(), addresses[1].c_str()};
      options.servers = servers.data();
      options.server_count = servers.size();
      options.max_prefetch_bytes = 1 << 20;
      options.cache_bytes = 1 << 20;
      engram_client* connected = nullptr;
      Require(Fine(engram_client_connect(&options, &connected)));
      return connected;
    }();
    return client;
  }

  uint32_t Layer() { return input_.Or<uint32_t>(input_.Below(2) == 0 ? 1 : 14); }
  int64_t Id() { return input_.Or<int64_t>(input_.Take<uint16_t>() % 6000); }

  // Any but one that the library would read behind the struct by, as its contract lets it.
  size_t StructSize(size_t known) {
    const size_t size = input_.Or(known);
    return size > known && size <= 4096 ? known : size;
  }

  engram_lookup_options* Options(size_t tokens) {
    if (input_.Below(3) == 0) return nullptr;
    options_ = ENGRAM_LOOKUP_OPTIONS_INIT;
    options_.struct_size = StructSize(options_.struct_size);
    options_.timeout_us = input_.Or<int64_t>(kPatience);
    options_.timeout_us = std::clamp<int64_t>(options_.timeout_us, -1, kPatience);
    options_.priority = input_.Or<int32_t>(input_.Below(3));
    options_.missing = input_.Or<int32_t>(input_.Below(3));
    degraded_.assign(kMaxIds, 0);
    if (input_.Below(2) == 0) options_.degraded = degraded_.data();
    options_.degraded_count = input_.Or(options_.degraded == nullptr ? 0 : tokens);
    return &options_;
  }

  bool Wait(uint32_t layer) {
    int32_t done = 0;
    Fine(engram_ticket_done(ticket_, layer, &done));
    Fine(engram_ticket_wait(ticket_, input_.Or(layer), input_.Or<int64_t>(0) > 0 ? 1 : 0));
    return Fine(engram_ticket_wait_all(ticket_, kPatience));
  }

  static void RequireRow(uint32_t layer, int64_t id, const uint8_t* row) {
    const std::string bytes =
        FakeRowStore::RowBytes(layer, static_cast<uint64_t>(id), kFakeRowBytes);
    Require(std::memcmp(bytes.data(), row, kFakeRowBytes) == 0);
  }

  void SubmitRows() {
    std::array<std::vector<int64_t>, 2> ids;
    std::array<std::vector<uint8_t>, 2> out;
    std::array<engram_rows, 2> layers{};
    for (size_t i = 0; i < 2; ++i) {
      ids[i].resize(input_.Below(kMaxIds));
      for (int64_t& id : ids[i]) id = Id();
      out[i].resize(kMaxIds * kFakeRowBytes);
      const size_t count = ids[i].size();
      layers[i] = {Layer(), input_.Or<uint32_t>(0), count == 0 ? nullptr : ids[i].data(),
                   count,   out[i].data(),          input_.Or(count * kFakeRowBytes)};
    }
    const size_t count = input_.Below(3);
    if (!Fine(engram_client_submit_rows(client(), layers.data(), count, Options(layers[0].count),
                                        ticket_))) {
      return;
    }
    if (Wait(layers[0].layer)) {
      for (size_t i = 0; i < count; ++i) {
        for (size_t row = 0; row < ids[i].size(); ++row) {
          RequireRow(layers[i].layer, ids[i][row], out[i].data() + row * kFakeRowBytes);
        }
      }
    }
    Drop();
  }

  // What a ticket borrows must outlive it.
  void Drop() {
    engram_ticket_destroy(ticket_);
    Require(Fine(engram_ticket_create(&ticket_)));
  }

  // Ids whose strides stay within memory, which the ABI leaves to its caller.
  struct StepIds {
    std::array<std::vector<int64_t>, 2> memory;
    std::array<engram_layer_ids, 2> layers;
    std::vector<uint8_t> mask = std::vector<uint8_t>(kMaxTokens);
    engram_step_ids step = ENGRAM_STEP_IDS_INIT;
  };
  void Fill(StepIds& ids, uint32_t tokens) {
    for (size_t i = 0; i < 2; ++i) {
      ids.memory[i].resize(4096);
      for (size_t at = 0; at < kMaxIds; ++at) ids.memory[i][at] = Id();
      ids.layers[i] = {ids.memory[i].data(), input_.Or<int32_t>(8), input_.Or<uint32_t>(0),
                       input_.Or<uint8_t>(kFakeColumns) % size_t{64},
                       input_.Or<uint8_t>(1) % size_t{64}};
    }
    for (uint8_t& masked : ids.mask) masked = input_.Below(8) == 0 ? 1 : 0;
    ids.step.struct_size = StructSize(ids.step.struct_size);
    ids.step.layers = ids.layers.data();
    ids.step.layer_count = input_.Or<uint8_t>(2) % size_t{3};
    if (input_.Below(2) == 0) ids.step.mask = ids.mask.data();
    ids.step.mask_count = ids.step.mask == nullptr ? input_.Or<size_t>(0) : tokens;
    ids.step.tokens = tokens;
    ids.step.per_column = input_.Or<int32_t>(0);
    ids.step.own_columns = input_.Or<int32_t>(0);
    ids.step.reserved = input_.Or<uint32_t>(0);
  }

  void SubmitIds() {
    const uint32_t tokens = input_.Below(kMaxTokens);
    StepIds ids;
    Fill(ids, tokens);
    const size_t bytes = tokens * kFakeColumns * kFakeRowBytes;
    std::array<std::vector<uint8_t>, 2> out;
    std::array<engram_buffer, 2> outputs{};
    for (size_t i = 0; i < 2; ++i) {
      out[i].resize(bytes);
      outputs[i] = {Layer(), input_.Or<uint32_t>(0), out[i].data(),
                    input_.Below(8) == 0 ? bytes / 2 : bytes};
    }
    if (!Fine(engram_client_submit_ids(client(), &ids.step, outputs.data(), ids.step.layer_count,
                                       Options(tokens), ticket_))) {
      return;
    }
    const bool wide = ids.layers[0].id_bytes == 8 && ids.layers[1].id_bytes == 8;
    if (Wait(outputs[0].layer) && wide && ids.step.per_column == 0) {
      for (size_t i = 0; i < ids.step.layer_count; ++i) {
        for (uint32_t row = 0; row < tokens * kFakeColumns; ++row) {
          const uint32_t token = row / kFakeColumns, column = row % kFakeColumns;
          const bool masked = ids.step.mask != nullptr && ids.mask[token] != 0;
          const int64_t id = ids.memory[i][token * ids.layers[i].token_stride +
                                           column * ids.layers[i].column_stride];
          RequireRow(outputs[i].layer, masked ? -1 : id, out[i].data() + row * kFakeRowBytes);
        }
      }
    }
    Drop();
  }

  std::vector<uint32_t> Tokens() {
    std::vector<uint32_t> tokens(input_.Below(kMaxTokens));
    for (uint32_t& token : tokens) token = input_.Or<uint32_t>(input_.Below(kFakeTokens));
    return tokens;
  }
  engram_lookback State() {
    engram_lookback state{};
    state.depth = input_.Or<uint32_t>(0);
    for (uint32_t& id : state.ids) id = input_.Or<uint32_t>(0);
    return state;
  }

  void SubmitTokens() {
    const std::vector<uint32_t> tokens = Tokens();
    std::vector<uint8_t> dead(tokens.size());
    for (uint8_t& each : dead) each = input_.Below(8) == 0 ? 1 : 0;
    engram_lookback state = State();
    const size_t bytes = tokens.size() * kFakeColumns * kFakeRowBytes;
    std::vector<uint8_t> out(bytes);
    const engram_buffer outputs[] = {{Layer(), 0, out.data(), bytes}};
    if (Fine(engram_client_submit_tokens(client(), tokens.data(), tokens.size(),
                                         input_.Below(2) == 0 ? dead.data() : nullptr,
                                         input_.Below(16) == 0 ? nullptr : &state, outputs, 1,
                                         Options(tokens.size()), ticket_))) {
      Wait(outputs[0].layer);
    }
    Drop();
  }

  void CreateSlot() {
    engram_slot_destroy(std::exchange(slot_, nullptr));
    engram_slot_options options = ENGRAM_SLOT_OPTIONS_INIT;
    options.struct_size = StructSize(options.struct_size);
    const std::array<uint32_t, 2> layers = {Layer(), Layer()};
    options.layers = input_.Below(2) == 0 ? layers.data() : nullptr;
    options.layer_count = options.layers == nullptr ? 0 : input_.Below(3);
    options.columns = {input_.Or<uint32_t>(0), input_.Or<uint32_t>(kFakeColumns)};
    // More would be refused for its memory alone, after a while.
    options.max_tokens = input_.Or<uint16_t>(kMaxTokens);
    options.order = input_.Or<int32_t>(input_.Below(2));
    options.split_scales = input_.Below(2);
    options.caller_resets_words = input_.Below(2);
    uint64_t bytes = 0;
    Fine(engram_slot_host_bytes(client(), &options, &bytes));
    Fine(engram_slot_create(client(), &options, &slot_));
  }

  void SubmitToSlot() {
    const uint32_t tokens = input_.Below(kMaxTokens);
    StepIds ids;
    const std::vector<uint32_t> text = Tokens();
    engram_lookback state = State();
    std::array<engram_chunk, 2> chunks{};
    chunks[0] = {text.data(), text.size(), nullptr, &state, nullptr, 0, 0};
    chunks[1].prefetch = prefetch_;
    chunks[1].first = input_.Or<size_t>(0);
    chunks[1].count = input_.Or<size_t>(1);
    bool submitted = false;
    if (input_.Below(2) == 0) {
      Fill(ids, tokens);
      submitted = Fine(engram_slot_submit_ids(slot_, &ids.step, Options(tokens)));
    } else {
      const size_t all = text.size() + (prefetch_ == nullptr ? 0 : chunks[1].count);
      submitted = Fine(engram_slot_submit_tokens(slot_, chunks.data(), prefetch_ == nullptr ? 1 : 2,
                                                 Options(all % kMaxIds)));
    }
    if (submitted && input_.Below(8) == 0) Fine(engram_slot_cancel(slot_));
    const uint32_t layer = Layer();
    int32_t done = 0;
    Fine(engram_slot_done(slot_, layer, &done));
    engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
    const bool known = Fine(engram_slot_layer(slot_, layer, &info));
    Fine(engram_slot_wait_all(slot_, kPatience));
    if (submitted && known) Require(*info.word != ENGRAM_WORD_PENDING);
  }

  void StartPrefetch() {
    engram_prefetch_destroy(std::exchange(prefetch_, nullptr));
    const std::vector<uint32_t> tokens = Tokens();
    engram_lookback state = State();
    engram_prefetch_options options = ENGRAM_PREFETCH_OPTIONS_INIT;
    options.struct_size = StructSize(options.struct_size);
    options.columns = {input_.Or<uint32_t>(0), input_.Or<uint32_t>(kFakeColumns)};
    options.priority = input_.Or<int32_t>(0);
    options.timeout_us = std::clamp<int64_t>(input_.Or<int64_t>(0), -1, kPatience);
    if (!Fine(engram_prefetch_start(client(), tokens.data(), tokens.size(), nullptr, &state,
                                    input_.Below(2) == 0 ? &options : nullptr, &prefetch_))) {
      Require(prefetch_ == nullptr);
      return;
    }
    size_t count = 0;
    uint64_t bytes = 0;
    Require(Fine(engram_prefetch_size(prefetch_, &count, &bytes)) && count == tokens.size());
    const size_t at = input_.Or(count);
    Require(Fine(engram_prefetch_state_at(prefetch_, at, &state)) == (at <= count));
    if (input_.Below(2) == 0) Fine(engram_prefetch_wait(prefetch_, kPatience));
  }

  void Dequantize() {
    const size_t rows = input_.Below(8);
    std::vector<uint8_t> packed(rows * kFakeRowBytes), scales(rows * 8), out(rows * 256 * 4);
    for (uint8_t& byte : packed) byte = input_.Take<uint8_t>();
    const bool split = input_.Below(2) == 0;
    const int32_t type = input_.Or<int32_t>(ENGRAM_VALUE_F32);
    const size_t value_bytes = type == ENGRAM_VALUE_F32 ? 4 : 2;
    Fine(engram_dequantize_rows(client(), input_.Or(rows), packed.data(),
                                input_.Or(rows * (split ? 256 : kFakeRowBytes)),
                                split ? scales.data() : nullptr, split ? scales.size() : 0, type,
                                out.data(), input_.Or(rows * 256 * value_bytes)));
  }

  // Handles and outputs that are not there, structs of other sizes, servers that are named twice.
  void Ask() {
    engram_table_info table = ENGRAM_TABLE_INFO_INIT;
    table.struct_size = input_.Take<uint16_t>() % (sizeof(table) + 1);
    Fine(engram_client_table(client(), &table));
    engram_layer_info layer = ENGRAM_LAYER_INFO_INIT;
    layer.struct_size = input_.Take<uint16_t>() % (sizeof(layer) + 1);
    Fine(engram_client_layer(client(), Layer(), &layer));
    Require(!Fine(engram_client_table(nullptr, &table)));
    Require(!Fine(engram_client_submit_rows(client(), nullptr, 1, nullptr, ticket_)));
    Require(!Fine(engram_ticket_wait(nullptr, 1, 0)));
    Require(!Fine(engram_slot_create(client(), nullptr, &slot_)));
    // Twice the same, or no address at all: refused, or the client would be without its servers.
    std::string name;
    for (int i = input_.Below(20); i > 0; --i) name += static_cast<char>(1 + input_.Below(120));
    const char* const servers[] = {name.c_str(), name.c_str()};
    Require(!Fine(engram_client_set_servers(client(), servers, 2)));
    if (name.find(':') == std::string::npos) {
      Require(!Fine(engram_client_set_servers(client(), servers, 1)));
    }
    Require(!Fine(engram_client_set_servers(client(), servers, 0)));
  }

  Input input_;
  engram_ticket* ticket_ = nullptr;
  engram_slot* slot_ = nullptr;
  engram_prefetch* prefetch_ = nullptr;
  engram_lookup_options options_ = ENGRAM_LOOKUP_OPTIONS_INIT;
  std::vector<uint8_t> degraded_;
};

}  // namespace
}  // namespace engram

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  engram::Run(engram::Input(data, size)).Go();
  return 0;
}
