#include "scheduler_service/edge/inference_service.h"

#include <chrono>
#include <memory>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/decode.h"
#include "common/rpc/message_bytes.h"
#include "common/rpc/status.h"
#include "scheduler_service/edge/cluster_codec.h"
#include "scheduler_service/edge/generate_stream.h"
#include "scheduler_service/edge/inference_codec.h"

namespace pregate {
namespace {

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                  : absl::FromChrono(deadline);
}

absl::string_view Traceparent(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find("traceparent");
  if (found == context.client_metadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

InferenceService::InferenceService(const ServedModel* model, SchedulerMetrics* metrics,
                                   RequestLog* log, Peer<GenerateRequest, ToClient>* engine,
                                   std::function<ClusterStanding()> look)
    : model_(model),
      metrics_(metrics),
      log_(log),
      engine_(engine),
      look_(std::move(look)),
      constraints_(model->tokenizer.get(), model->spec.vocab_size),
      watcher_([this] { WatchForStuckStreams(); }) {}

InferenceService::~InferenceService() {
  stop_.Notify();
  watcher_.join();
}

void InferenceService::WatchForStuckStreams() {
  while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(kSlowClientMsMax / 5))) {
    std::vector<std::shared_ptr<GenerateStream>> open;
    {
      absl::MutexLock lock(&mutex_);
      for (const auto& [key, stream] : streams_) open.push_back(stream.lock());
    }
    // Outside of the lock: a stream that ends calls Forget.
    for (const auto& stream : open) {
      if (stream != nullptr) stream->CancelIfStuck(absl::Now());
    }
  }
}

void InferenceService::Forget(uint64_t key) {
  absl::MutexLock lock(&mutex_);
  streams_.erase(key);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::GenerateRequest request;
  const absl::Status parsed = ParseClientMessage(*bytes, &request);
  const uint64_t key = next_key_++;
  auto stream = std::make_shared<GenerateStream>(GenerateStream::Context{
      .identity = log_->Identify(
          request.request_id().empty() ? absl::StrCat("request-", key)
                                       : std::string(Clip(request.request_id(), kIdBytesMax)),
          std::string(Clip(request.tenant(), kIdBytesMax)), Traceparent(*context)),
      .return_routes = request.return_routes(),
      .echo = request.echo(),
      .has_routes = model_->has_routes(),
      .tokenizer = model_->tokenizer.get(),
      .grpc = context,
      .engine = engine_,
      .metrics = metrics_,
      .log = log_,
      .on_closed = [this, key, tell_end = self_told_.Begin(*context)] {
        tell_end();
        --num_streams_;
        Forget(key);
      }});
  {
    absl::MutexLock lock(&mutex_);
    streams_[key] = stream;
  }
  if (++num_streams_ > kClientStreamsMax) {
    stream->Refuse(absl::ResourceExhaustedError(
                       absl::StrCat("more than ", kClientStreamsMax, " streams are open")),
                   kRetryAfter);
    return stream.get();
  }
  if (!parsed.ok()) {
    stream->Refuse(parsed);
    return stream.get();
  }
  auto decoded = DecodeGenerateRequest(request, *model_, metrics_->facts(), DeadlineOf(*context));
  if (decoded.ok()) {
    // Without tenants clients of one Unix socket have one address, and so one share.
    decoded->client = decoded->tenant.empty() ? absl::HashOf(0, context->peer())
                                              : absl::HashOf(1, decoded->tenant);
    SubmitConstrained(stream, DecodeConstraint(request, *model_), *std::move(decoded));
  } else {
    stream->Refuse(decoded.status());
  }
  return stream.get();
}

void InferenceService::SubmitConstrained(const std::shared_ptr<GenerateStream>& stream,
                                         absl::StatusOr<std::optional<Constraint>> constraint,
                                         GenerateRequest request) {
  if (!constraint.ok()) return stream->Refuse(constraint.status());
  if (!*constraint) return stream->Submit(std::move(request));
  stream->Hold();
  constraints_.Compile(**std::move(constraint),
                       [stream, request = std::move(request)](
                           absl::StatusOr<std::shared_ptr<CompiledGrammar>> grammar) mutable {
                         if (!grammar.ok()) {
                           const bool again = absl::IsResourceExhausted(grammar.status());
                           return stream->Refuse(grammar.status(),
                                                 again ? kRetryAfter : absl::ZeroDuration());
                         }
                         request.grammar = *std::move(grammar);
                         stream->Submit(std::move(request));
                       });
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
  *response = ToBytes(&out);
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
  *response = ToBytes(&out);
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetModelInfo(grpc::CallbackServerContext* context,
                                                         const v1::GetModelInfoRequest* request,
                                                         v1::GetModelInfoResponse* response) {
  *response = EncodeModelInfo(*model_, metrics_->facts());
  return Answer(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetClusterStatus(
    grpc::CallbackServerContext* context, const v1::GetClusterStatusRequest* request,
    v1::GetClusterStatusResponse* response) {
  if (request->timeline_steps() < 0 || request->timeline_steps() > kStepsShownMax) {
    return Answer(context, absl::InvalidArgumentError(
                               absl::StrCat("timeline_steps is ", request->timeline_steps(),
                                            ", must be 0..", kStepsShownMax)));
  }
  *response = EncodeClusterStatus(*model_, look_(), request->timeline_steps());
  return Answer(context, absl::OkStatus());
}

}  // namespace pregate
