#include "service/change_calls.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "service/unary_call.h"

namespace engram {
namespace {

absl::StatusOr<Sha256> DigestOf(const std::string& bytes) {
  Sha256 digest;
  if (bytes.size() != digest.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request's digest has ", bytes.size(), " bytes, expected 32"));
  }
  std::copy(bytes.begin(), bytes.end(), digest.begin());
  return digest;
}

absl::Status Publish(CallContext& context, const v1::PublishRequest& request,
                     v1::PublishResponse& response) {
  ASSIGN_OR_RETURN(const Sha256 target, DigestOf(request.target()));
  RETURN_IF_ERROR(context.generations.Publish(
      {target, request.header(), request.first(), request.records(), request.last()}));
  response.set_prepared(context.generations.current()->Find(target) != nullptr);
  return absl::OkStatus();
}

absl::Status Activate(CallContext& context, const v1::ActivateRequest& request,
                      v1::ActivateResponse&) {
  ASSIGN_OR_RETURN(const Sha256 digest, DigestOf(request.digest()));
  return context.generations.Activate(digest);
}

absl::Status Retire(CallContext& context, const v1::RetireRequest& request, v1::RetireResponse&) {
  ASSIGN_OR_RETURN(const Sha256 digest, DigestOf(request.digest()));
  return context.generations.Retire(digest);
}

}  // namespace

void ListenForChanges(CallContext& context) {
  new UnaryCall<v1::PublishRequest, v1::PublishResponse>(
      context, &AsyncEngramService::RequestPublish, Publish, AnswerOn::kChange);
  new UnaryCall<v1::ActivateRequest, v1::ActivateResponse>(
      context, &AsyncEngramService::RequestActivate, Activate, AnswerOn::kChange);
  new UnaryCall<v1::RetireRequest, v1::RetireResponse>(context, &AsyncEngramService::RequestRetire,
                                                       Retire, AnswerOn::kChange);
}

}  // namespace engram
