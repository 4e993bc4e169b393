#include "client/http2_connection.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/grpc_framing.h"

namespace engram {
namespace {

// What may be under way of answers before the server must wait for us: all. The caller's credit is
// what bounds them, and rows are put in place as they come, so nothing piles up here.
constexpr int32_t kWindowBytes = 1 << 30;
constexpr uint32_t kFrameBytes = 1 << 20;
constexpr uint32_t kHeaderListBytes = 64 << 10;
// Frames that are put together before they go to the socket.
constexpr size_t kSendBytes = 256 << 10;

absl::Status Http2Error(ssize_t code) {
  return absl::InternalError(absl::StrCat("HTTP/2: ", nghttp2_strerror(static_cast<int>(code))));
}

nghttp2_nv Header(absl::string_view name, absl::string_view value) {
  const auto bytes = [](absl::string_view text) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

// grpc-message is percent-encoded.
std::string PercentDecoded(absl::string_view text) {
  std::string decoded;
  const auto is_digit = [&](size_t i) {
    return absl::ascii_isxdigit(static_cast<unsigned char>(text[i]));
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && is_digit(i + 1) && is_digit(i + 2)) {
      decoded += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

Http2Connection* Self(void* user_data) { return static_cast<Http2Connection*>(user_data); }

}  // namespace

// ---------------------------------------------------------------- nghttp2's callbacks

nghttp2_session* Http2Connection::NewSession(Http2Connection* self) {
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(
      callbacks,
      [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_bytes,
         const uint8_t* value, size_t value_bytes, uint8_t, void* connection) {
        return Self(connection)
            ->OnHeader(frame->hd.stream_id, {reinterpret_cast<const char*>(name), name_bytes},
                       {reinterpret_cast<const char*>(value), value_bytes});
      });
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
      callbacks, [](nghttp2_session*, uint8_t, int32_t id, const uint8_t* data, size_t size,
                    void* connection) {
        return Self(connection)->OnData(id, {data, size});
      });
  nghttp2_session_callbacks_set_on_stream_close_callback(
      callbacks, [](nghttp2_session*, int32_t id, uint32_t error, void* connection) {
        return Self(connection)->OnStreamClose(id, error);
      });
  // Frames of data as large as the server and its windows allow; 16 KiB otherwise.
  nghttp2_session_callbacks_set_data_source_read_length_callback(
      callbacks, [](nghttp2_session*, uint8_t, int32_t, int32_t session_window,
                    int32_t stream_window, uint32_t frame_bytes, void*) {
        return static_cast<ssize_t>(
            std::min<int64_t>({session_window, stream_window, frame_bytes, kSendBytes}));
      });
  nghttp2_session* session = nullptr;
  nghttp2_session_client_new(&session, callbacks, self);
  nghttp2_session_callbacks_del(callbacks);
  return session;
}

int Http2Connection::OnHeader(int32_t id, absl::string_view name, absl::string_view value) {
  CallState* const state = Find(id);
  if (state == nullptr) return 0;
  if (name == ":status" && !absl::SimpleAtoi(value, &state->http_status)) return 0;
  if (name == "grpc-status" && !absl::SimpleAtoi(value, &state->grpc_status)) {
    state->grpc_status = static_cast<int>(absl::StatusCode::kUnknown);
  }
  if (name == "grpc-message") state->grpc_message = PercentDecoded(value);
  return 0;
}

int Http2Connection::OnData(int32_t id, std::span<const uint8_t> bytes) {
  CallState* const state = Find(id);
  if (state == nullptr) return 0;
  failure_ = state->call->OnBytes(bytes);
  return failure_.ok() ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

int Http2Connection::OnStreamClose(int32_t id, uint32_t error) {
  auto node = calls_.extract(id);
  if (node.empty()) return 0;
  const CallState& state = node.mapped();
  absl::Status status;
  if (state.grpc_status > 0) {
    status = absl::Status(static_cast<absl::StatusCode>(state.grpc_status), state.grpc_message);
  } else if (state.grpc_status < 0 && state.http_status != 0 && state.http_status != 200) {
    status = absl::UnavailableError(absl::StrCat("HTTP status ", state.http_status));
  } else if (state.grpc_status < 0) {
    status =
        absl::UnavailableError(absl::StrCat("the call was ended: ", nghttp2_http2_strerror(error)));
  }
  state.call->OnEnd(status);
  return 0;
}

ssize_t Http2Connection::TakeMessages(int32_t id, std::span<uint8_t> into, uint32_t* flags) {
  CallState* const state = Find(id);
  if (state == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const size_t left = state->messages.size() - state->taken;
  if (left == 0 && !state->no_more) {
    state->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  const size_t count = std::min(left, into.size());
  if (count > 0) std::memcpy(into.data(), state->messages.data() + state->taken, count);
  state->taken += count;
  if (count == left) {
    state->messages.clear();
    state->taken = 0;
    if (state->no_more) *flags |= NGHTTP2_DATA_FLAG_EOF;
  }
  return static_cast<ssize_t>(count);
}

// ---------------------------------------------------------------- calls

Http2Connection::Http2Connection(Socket socket, Names names, WireBytes* wire)
    : socket_(std::move(socket)),
      names_(std::move(names)),
      wire_(wire),
      session_(NewSession(this)) {
  const std::array<nghttp2_settings_entry, 4> settings{{
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(kWindowBytes)},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, kFrameBytes},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, kHeaderListBytes},
  }};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindowBytes);
}

Http2Connection::~Http2Connection() { nghttp2_session_del(session_); }

Http2Connection::CallState* Http2Connection::Find(int32_t id) {
  const auto it = calls_.find(id);
  return it == calls_.end() ? nullptr : &it->second;
}

absl::StatusOr<int32_t> Http2Connection::StartCall(absl::string_view path, absl::Duration timeout,
                                                   Call* call) {
  const std::string timeout_ms = absl::StrCat(absl::ToInt64Milliseconds(timeout), "m");
  std::vector<nghttp2_nv> headers = {
      Header(":method", "POST"),
      Header(":scheme", socket_.tls() ? "https" : "http"),
      Header(":path", path),
      Header(":authority", names_.authority),
      Header("te", "trailers"),
      Header("content-type", "application/grpc"),
      Header("user-agent", "engram-client"),
  };
  if (!names_.authorization.empty()) {
    headers.push_back(Header("authorization", names_.authorization));
  }
  if (timeout != absl::InfiniteDuration()) headers.push_back(Header("grpc-timeout", timeout_ms));
  nghttp2_data_provider provider = {};
  provider.read_callback = [](nghttp2_session*, int32_t id, uint8_t* buffer, size_t size,
                              uint32_t* flags, nghttp2_data_source*, void* connection) {
    return Self(connection)->TakeMessages(id, {buffer, size}, flags);
  };
  const int32_t id =
      nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(), &provider, nullptr);
  if (id < 0) return Http2Error(id);
  calls_[id].call = call;
  return id;
}

void Http2Connection::Resume(int32_t id, CallState& state) {
  if (!std::exchange(state.deferred, false)) return;
  nghttp2_session_resume_data(session_, id);
}

std::span<uint8_t> Http2Connection::AddMessage(int32_t call, size_t bytes) {
  CallState& state = *Find(call);
  const size_t begin = state.messages.size();
  state.messages.resize(begin + kGrpcPrefixBytes + bytes);
  WriteGrpcPrefix(static_cast<uint32_t>(bytes), state.messages.data() + begin);
  Resume(call, state);
  return std::span(state.messages).subspan(begin + kGrpcPrefixBytes);
}

void Http2Connection::EndMessages(int32_t call) {
  CallState& state = *Find(call);
  state.no_more = true;
  Resume(call, state);
}

void Http2Connection::Ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }

// ---------------------------------------------------------------- the socket

absl::Status Http2Connection::OnReadable(std::span<uint8_t> scratch) {
  const absl::StatusOr<size_t> read = socket_.Read(scratch);
  if (absl::IsUnavailable(read.status()) && !heard_) {
    return absl::UnavailableError(
        absl::StrCat(read.status().message(), " before it had said anything: it may want ",
                     socket_.tls() ? "another certificate of us, or one at all" : "TLS"));
  }
  RETURN_IF_ERROR(read.status());
  const size_t got = *read;
  if (got == 0) return absl::OkStatus();
  heard_ = true;
  if (wire_ != nullptr) wire_->received.Add(got);
  const ssize_t taken = nghttp2_session_mem_recv(session_, scratch.data(), got);
  if (!failure_.ok()) return failure_;
  if (taken < 0) return Http2Error(taken);
  if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0) {
    return absl::UnavailableError("the server ended the connection");
  }
  return absl::OkStatus();
}

absl::Status Http2Connection::Flush() {
  while (true) {
    while (out_.size() - out_sent_ < kSendBytes) {
      const uint8_t* frame = nullptr;
      const ssize_t bytes = nghttp2_session_mem_send(session_, &frame);
      if (bytes < 0) return Http2Error(bytes);
      if (bytes == 0) break;
      out_.insert(out_.end(), frame, frame + bytes);
    }
    if (!unsent()) return absl::OkStatus();
    ASSIGN_OR_RETURN(const size_t sent, socket_.Write(std::span(out_).subspan(out_sent_)));
    if (sent == 0) return absl::OkStatus();
    if (wire_ != nullptr) wire_->sent.Add(sent);
    out_sent_ += sent;
    if (unsent()) continue;
    out_.clear();
    out_sent_ = 0;
  }
}

}  // namespace engram
