// engram_client.h for C++17 and later: handles that end themselves, statuses that cannot leak.
// Header-only, over the C ABI alone: a program built with it runs with every library of the same
// major ABI version, whatever compiled that.
//
//   using namespace engram::client;
//   Result<Client> client = Client::ConnectJson("{\"servers\": [\"10.0.0.1:50051\"]}");
//   if (!client.ok()) return Fail(client.status());
//   Ticket ticket;
//   const engram_rows rows{1, 0, ids.data(), ids.size(), out.data(), out.size()};
//   if (Status s = client->SubmitRows({&rows, 1}, ticket); !s.ok()) return Fail(s);
//   ... compute layer 0 ...
//   if (Status s = ticket.Wait(1); !s.ok()) return Fail(s);
//
// What each call does, its codes, its threads and what it borrows stand in engram_client.h. Nothing
// here throws but std::bad_alloc. Handles are movable; one that was moved from, or is default-made,
// holds nothing: calls on it are INVALID_ARGUMENT.
#ifndef ENGRAM_CLIENT_HPP_
#define ENGRAM_CLIENT_HPP_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engram_client.h"

namespace engram::client {

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  // Takes what a function of the C ABI has returned, and frees it.
  explicit Status(engram_status* status) {
    if (status == nullptr) return;
    const std::unique_ptr<engram_status, decltype(&engram_status_free)> owned(status,
                                                                              engram_status_free);
    code_ = engram_status_code(status);
    message_ = engram_status_message(status);
    retry_after_ = std::chrono::microseconds(engram_status_retry_after_us(status));
  }

  bool ok() const { return code_ == ENGRAM_OK; }
  engram_code code() const { return code_; }
  const std::string& message() const { return message_; }
  // RESOURCE_EXHAUSTED: when trying again may help; 0: not known.
  std::chrono::microseconds retry_after() const { return retry_after_; }
  // "UNAVAILABLE: no server ..."; "OK".
  std::string ToString() const {
    return ok() ? "OK" : std::string(engram_code_name(code_)) + ": " + message_;
  }

 private:
  engram_code code_ = ENGRAM_OK;
  std::string message_;
  std::chrono::microseconds retry_after_{0};
};

// A value, or why there is none. The value may be used only where ok().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Status status) : status_(std::move(status)) {}

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

// Elements that somebody else holds.
template <typename T>
struct Array {
  Array() = default;
  Array(const T* first, size_t count) : data(first), size(count) {}
  Array(const std::vector<T>& vector) : data(vector.data()), size(vector.size()) {}

  const T* data = nullptr;
  size_t size = 0;
};

// Negative: for ever.
using Timeout = std::chrono::microseconds;
inline constexpr Timeout kForever{ENGRAM_FOREVER};

template <auto Destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* handle) const {
    Destroy(handle);
  }
};

class Ticket {
 public:
  // One without memory for it holds nothing.
  Ticket() {
    engram_ticket* made = nullptr;
    if (Status(engram_ticket_create(&made)).ok()) handle_.reset(made);
  }
  Status Wait(uint32_t layer, Timeout timeout = kForever) {
    return Status(engram_ticket_wait(get(), layer, timeout.count()));
  }
  Status WaitAll(Timeout timeout = kForever) {
    return Status(engram_ticket_wait_all(get(), timeout.count()));
  }
  bool Done(uint32_t layer) const {
    int32_t done = 0;
    return Status(engram_ticket_done(get(), layer, &done)).ok() && done != 0;
  }
  engram_ticket* get() const { return handle_.get(); }

 private:
  std::unique_ptr<engram_ticket, Destroyer<engram_ticket_destroy>> handle_;
};

class Prefetch {
 public:
  Prefetch() = default;
  explicit Prefetch(engram_prefetch* handle) : handle_(handle) {}

  // A step's chunk of tokens [first, first + count).
  engram_chunk Range(size_t first, size_t count) const {
    return {nullptr, 0, nullptr, nullptr, get(), first, count};
  }
  Result<engram_lookback> StateAt(size_t tokens) const {
    engram_lookback state{};
    Status status(engram_prefetch_state_at(get(), tokens, &state));
    if (!status.ok()) return status;
    return state;
  }
  Status Wait(Timeout timeout = kForever) {
    return Status(engram_prefetch_wait(get(), timeout.count()));
  }
  engram_prefetch* get() const { return handle_.get(); }

 private:
  std::unique_ptr<engram_prefetch, Destroyer<engram_prefetch_destroy>> handle_;
};

class Slot {
 public:
  Slot() = default;
  explicit Slot(engram_slot* handle) : handle_(handle) {}

  Status SubmitIds(const engram_step_ids& ids, const engram_lookup_options* options = nullptr) {
    return Status(engram_slot_submit_ids(get(), &ids, options));
  }
  Status SubmitTokens(Array<engram_chunk> chunks, const engram_lookup_options* options = nullptr) {
    return Status(engram_slot_submit_tokens(get(), chunks.data, chunks.size, options));
  }
  Status Wait(uint32_t layer, Timeout timeout = kForever) {
    return Status(engram_slot_wait(get(), layer, timeout.count()));
  }
  Status WaitAll(Timeout timeout = kForever) {
    return Status(engram_slot_wait_all(get(), timeout.count()));
  }
  bool Done(uint32_t layer) const {
    int32_t done = 0;
    return Status(engram_slot_done(get(), layer, &done)).ok() && done != 0;
  }
  Status Cancel() { return Status(engram_slot_cancel(get())); }
  Result<engram_slot_layer_info> Layer(uint32_t layer) const {
    engram_slot_layer_info info = ENGRAM_SLOT_LAYER_INFO_INIT;
    Status status(engram_slot_layer(get(), layer, &info));
    if (!status.ok()) return status;
    return info;
  }
  engram_slot* get() const { return handle_.get(); }

 private:
  std::unique_ptr<engram_slot, Destroyer<engram_slot_destroy>> handle_;
};

class Client {
 public:
  Client() = default;
  static Result<Client> Connect(const engram_client_options& options) {
    engram_client* made = nullptr;
    return Made(engram_client_connect(&options, &made), made);
  }
  static Result<Client> ConnectJson(const std::string& json, engram_log_fn log = nullptr,
                                    void* log_user = nullptr) {
    engram_client* made = nullptr;
    return Made(engram_client_connect_json(json.c_str(), log, log_user, &made), made);
  }
  static Result<Client> ConnectEnv(engram_log_fn log = nullptr, void* log_user = nullptr) {
    engram_client* made = nullptr;
    return Made(engram_client_connect_env(log, log_user, &made), made);
  }

  Status SetServers(Array<const char*> servers) {
    return Status(engram_client_set_servers(get(), servers.data, servers.size));
  }
  Status SaveHotNgrams(const std::string& path) const {
    return Status(engram_client_save_hot_ngrams(get(), path.c_str()));
  }

  Result<engram_table_info> Table() const {
    engram_table_info info = ENGRAM_TABLE_INFO_INIT;
    Status status(engram_client_table(get(), &info));
    if (!status.ok()) return status;
    return info;
  }
  Result<engram_layer_info> Layer(uint32_t layer) const {
    engram_layer_info info = ENGRAM_LAYER_INFO_INIT;
    Status status(engram_client_layer(get(), layer, &info));
    if (!status.ok()) return status;
    return info;
  }
  Result<Array<uint32_t>> TokenMap() const {
    Array<uint32_t> map;
    Status status(engram_client_token_map(get(), &map.data, &map.size));
    if (!status.ok()) return status;
    return map;
  }

  Status SubmitRows(Array<engram_rows> layers, Ticket& ticket,
                    const engram_lookup_options* options = nullptr) {
    return Status(
        engram_client_submit_rows(get(), layers.data, layers.size, options, ticket.get()));
  }
  Status SubmitIds(const engram_step_ids& ids, Array<engram_buffer> outputs, Ticket& ticket,
                   const engram_lookup_options* options = nullptr) {
    return Status(
        engram_client_submit_ids(get(), &ids, outputs.data, outputs.size, options, ticket.get()));
  }
  // `dead`: none, or one flag a token.
  Status SubmitTokens(Array<uint32_t> tokens, const uint8_t* dead, engram_lookback& state,
                      Array<engram_buffer> outputs, Ticket& ticket,
                      const engram_lookup_options* options = nullptr) {
    return Status(engram_client_submit_tokens(get(), tokens.data, tokens.size, dead, &state,
                                              outputs.data, outputs.size, options, ticket.get()));
  }

  Result<Slot> MakeSlot(const engram_slot_options& options) const {
    engram_slot* made = nullptr;
    Status status(engram_slot_create(get(), &options, &made));
    if (!status.ok()) return status;
    return Slot(made);
  }
  Result<uint64_t> SlotHostBytes(const engram_slot_options& options) const {
    uint64_t bytes = 0;
    Status status(engram_slot_host_bytes(get(), &options, &bytes));
    if (!status.ok()) return status;
    return bytes;
  }
  Result<Prefetch> StartPrefetch(Array<uint32_t> tokens, const uint8_t* dead,
                                 engram_lookback& state,
                                 const engram_prefetch_options* options = nullptr) {
    engram_prefetch* made = nullptr;
    Status status(
        engram_prefetch_start(get(), tokens.data, tokens.size, dead, &state, options, &made));
    if (!status.ok()) return status;
    return Prefetch(made);
  }

  // `scales`: none where rows are whole.
  Status DequantizeRows(size_t rows, Array<uint8_t> packed, Array<uint8_t> scales, int32_t type,
                        uint8_t* out, size_t out_bytes) const {
    return Status(engram_dequantize_rows(get(), rows, packed.data, packed.size, scales.data,
                                         scales.size, type, out, out_bytes));
  }

  // visit(const engram_metric&), which must not throw.
  template <typename Visit>
  Status VisitMetrics(Visit&& visit) const {
    using Callable = std::remove_reference_t<Visit>;
    return Status(engram_client_visit_metrics(
        get(),
        [](void* user, const engram_metric* metric) { (*static_cast<Callable*>(user))(*metric); },
        &visit));
  }
  // visit(layer, begin, end), which must not throw.
  template <typename Visit>
  Status VisitMissingRanges(Visit&& visit) const {
    using Callable = std::remove_reference_t<Visit>;
    return Status(engram_client_missing_ranges(
        get(),
        [](void* user, uint32_t layer, uint64_t begin, uint64_t end) {
          (*static_cast<Callable*>(user))(layer, begin, end);
        },
        &visit));
  }
  engram_client* get() const { return handle_.get(); }

 private:
  // By reference: `made` is set by the call that gives `status`.
  static Result<Client> Made(engram_status* status, engram_client*& made) {
    if (status != nullptr) return Status(status);
    Client client;
    client.handle_.reset(made);
    return client;
  }

  std::unique_ptr<engram_client, Destroyer<engram_client_destroy>> handle_;
};

}  // namespace engram::client

#endif  // ENGRAM_CLIENT_HPP_
