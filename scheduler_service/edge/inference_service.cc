#include "scheduler_service/edge/inference_service.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/rpc/client_message.h"
#include "common/rpc/decode.h"
#include "common/rpc/status.h"
#include "scheduler_service/edge/generate_stream.h"
#include "scheduler_service/edge/inference_codec.h"

namespace pregate {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                  : absl::FromChrono(deadline);
}

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

InferenceService::InferenceService(const ServedModel* model, SchedulerMetrics* metrics,
                                   RequestLog* log, Push push)
    : model_(model), metrics_(metrics), log_(log), push_(std::move(push)) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::GenerateRequest request;
  const absl::Status parsed = ParseClientMessage(*bytes, &request);
  const uint64_t key = next_key_++;
  auto stream = std::make_shared<GenerateStream>(GenerateStream::Context{
      .client_key = key,
      .request_id = request.request_id().empty()
                        ? absl::StrCat("request-", key)
                        : std::string(Clip(request.request_id(), kIdBytesMax)),
      .tenant = std::string(Clip(request.tenant(), kIdBytesMax)),
      .return_routes = request.return_routes(),
      .has_routes = model_->has_routes(),
      .grpc = context,
      .push = push_,
      .metrics = metrics_,
      .log = log_,
      .on_closed = [this] { --num_streams_; }});
  if (++num_streams_ > kClientStreamsMax) {
    stream->Refuse(absl::ResourceExhaustedError(
        absl::StrCat("more than ", kClientStreamsMax, " streams are open")));
    return stream.get();
  }
  if (!parsed.ok()) {
    stream->Refuse(parsed);
    return stream.get();
  }
  auto decoded = DecodeGenerateRequest(request, *model_, metrics_->facts(), DeadlineOf(*context));
  if (decoded.ok()) {
    stream->Submit(*std::move(decoded));
  } else {
    stream->Refuse(decoded.status());
  }
  return stream.get();
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* request,
                                                     grpc::ByteBuffer* response) {
  v1::TokenizeRequest in;
  if (absl::Status s = ParseClientMessage(*request, &in); !s.ok()) return Answer(context, s);
  const auto ids = DecodeTokenizeRequest(in, *model_);
  if (!ids.ok()) return Answer(context, ids.status());
  v1::TokenizeResponse out;
  out.mutable_ids()->Add(ids->begin(), ids->end());
  *response = ToByteBuffer(out);
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request,
                                                       grpc::ByteBuffer* response) {
  v1::DetokenizeRequest in;
  if (absl::Status s = ParseClientMessage(*request, &in); !s.ok()) return Answer(context, s);
  auto text = DecodeDetokenizeRequest(in, *model_);
  if (!text.ok()) return Answer(context, text.status());
  v1::DetokenizeResponse out;
  out.set_text(*std::move(text));
  *response = ToByteBuffer(out);
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetModelInfo(grpc::CallbackServerContext* context,
                                                         const v1::GetModelInfoRequest* request,
                                                         v1::GetModelInfoResponse* response) {
  *response = EncodeModelInfo(*model_, metrics_->facts());
  return Answer(context, absl::OkStatus());
}

}  // namespace pregate
