#include "service/unary_calls.h"

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/describe.h"
#include "proto/grpc_status.h"
#include "proto/version.h"
#include "proto/wire.h"
#include "service/admission.h"

namespace engram {
namespace {

v1::ServerState StateOf(const CallContext& context) {
  if (context.table.rows->state().failed()) return v1::SERVER_STATE_FAILED;
  return context.phase == Phase::kServing ? v1::SERVER_STATE_SERVING : v1::SERVER_STATE_DRAINING;
}

absl::Status Describe(const CallContext& context, const v1::DescribeRequest& request,
                      v1::DescribeResponse& response) {
  const Table& table = context.table;
  response.set_server_version(kVersion);
  response.set_model(table.model);
  ToMessage(table.geometry, response.mutable_geometry());
  ToMessage(table.rows->layout(), response.mutable_row_layout());
  if (table.token_map.has_value()) {
    ToMessage(*table.token_map, request.include_token_map(), response.mutable_token_map());
  }
  v1::Generation* generation = response.add_generations();
  generation->set_digest(table.digest.data(), table.digest.size());
  generation->set_state(v1::GENERATION_STATE_ACTIVE);
  ToMessage(table.rows->ranges(), generation);
  response.set_state(StateOf(context));
  response.set_shard_index(table.shard.index);
  response.set_shard_count(table.shard.count);
  v1::Limits* limits = response.mutable_limits();
  limits->set_max_rows_per_request(context.options.max_rows_per_request);
  limits->set_max_rows_per_unary_request(MaxUnaryRows(table.rows->layout()));
  limits->set_max_request_bytes(context.options.max_request_bytes);
  limits->set_max_requests_in_flight(context.options.max_requests_in_flight);
  response.add_features(v1::FEATURE_ROW_CHECKSUMS);
  const StoreState& state = table.rows->state();
  response.mutable_verification()->set_passes(state.verified_passes);
  response.mutable_verification()->set_rows(state.verified_rows);
  response.set_failure(std::string(state.failure().message()));
  return absl::OkStatus();
}

absl::Status Gather(const CallContext& context, const v1::GatherRequest& request,
                    v1::GatherResponse& response) {
  if (context.phase != Phase::kServing) return absl::UnavailableError("the server is draining");
  const RowStore& store = *context.table.rows;
  const size_t count = static_cast<size_t>(request.rows_size() + request.wide_rows_size());
  if (count > MaxUnaryRows(store.layout())) {
    return absl::InvalidArgumentError(
        absl::StrCat("request asks for ", count, " rows; a unary Gather takes at most ",
                     MaxUnaryRows(store.layout()), " (GatherStream has room for more)"));
  }
  const std::span<const uint32_t> rows(request.rows().data(), request.rows().size());
  const std::span<const uint64_t> wide(request.wide_rows().data(), request.wide_rows().size());
  RETURN_IF_ERROR(
      AdmitGather(context.table, request.digest(), request.layer(), request.flags(), rows, wide));
  response.mutable_rows()->resize(count * store.layout().row_bytes());
  uint32_t* checksums = nullptr;
  if ((request.flags() & kFlagChecksums) != 0) {
    response.mutable_checksums()->Resize(static_cast<int>(count), 0);
    checksums = response.mutable_checksums()->mutable_data();
  }
  auto* out = reinterpret_cast<uint8_t*>(response.mutable_rows()->data());
  return wide.empty() ? store.Gather(request.layer(), rows, out, checksums)
                      : store.Gather(request.layer(), wide, out, checksums);
}

// One unary call: waits, answers, deletes itself.
template <typename Request, typename Response>
class UnaryCall {
 public:
  using Writer = grpc::ServerAsyncResponseWriter<Response>;
  using RequestMethod = void (AsyncEngramService::*)(grpc::ServerContext*, Request*, Writer*,
                                                     grpc::CompletionQueue*,
                                                     grpc::ServerCompletionQueue*, void*);
  using Handler = absl::Status (*)(const CallContext&, const Request&, Response&);

  UnaryCall(CallContext& context, RequestMethod method, Handler handler)
      : context_(context),
        count_(context),
        method_(method),
        handler_(handler),
        writer_(&server_context_),
        started_([this](bool ok) { OnStarted(ok); }),
        finished_([this](bool) { delete this; }) {
    (context_.engram.*method_)(&server_context_, &request_, &writer_, context_.queue.get(),
                               context_.queue.get(), started_.Tag());
  }

 private:
  void OnStarted(bool ok) {
    if (!ok) {  // The server shuts down: no call came.
      delete this;
      return;
    }
    if (context_.phase < Phase::kEnding) new UnaryCall(context_, method_, handler_);
    Response response;
    const absl::Status status = handler_(context_, request_, response);
    if (status.ok()) {
      writer_.Finish(response, grpc::Status::OK, finished_.Tag());
    } else {
      writer_.FinishWithError(ToGrpcStatus(status), finished_.Tag());
    }
  }

  CallContext& context_;
  const CallCount count_;
  const RequestMethod method_;
  const Handler handler_;
  grpc::ServerContext server_context_;
  Request request_;
  Writer writer_;
  Completion started_, finished_;
};

}  // namespace

uint64_t MaxUnaryRows(const RowLayout& layout) {
  constexpr uint64_t kResponseBytes = (4 << 20) - (64 << 10);
  constexpr uint64_t kChecksumBytes = 4;
  return kResponseBytes / (layout.row_bytes() + kChecksumBytes);
}

void ListenForDescribe(CallContext& context) {
  new UnaryCall<v1::DescribeRequest, v1::DescribeResponse>(
      context, &AsyncEngramService::RequestDescribe, Describe);
}

void ListenForGather(CallContext& context) {
  new UnaryCall<v1::GatherRequest, v1::GatherResponse>(context, &AsyncEngramService::RequestGather,
                                                       Gather);
}

}  // namespace engram
