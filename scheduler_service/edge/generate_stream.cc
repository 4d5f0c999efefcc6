#include "scheduler_service/edge/generate_stream.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/random/random.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/rpc/message_bytes.h"
#include "scheduler_service/edge/inference_codec.h"
#include "scheduler_service/edge/request_log.h"
#include "scheduler_service/edge/scheduler_metrics.h"
#include "scheduler_service/edge/token_bytes.h"
#include "scheduler_service/engine/generations.h"

namespace pregate {

void GenerateStream::Hold() {
  self_ = shared_from_this();
  held_ = true;
}

void GenerateStream::Submit(GenerateRequest request) {
  if (!held_) self_ = shared_from_this();
  const int32_t count = std::max(request.n, request.best_of);
  if (count > 1 && !request.seed) request.seed = absl::Uniform<uint64_t>(absl::BitGen());
  if (context_.echo) prompt_ = request.prompt;
  request.traceparent = context_.identity.Traceparent();
  queue_max_ *= count;
  const auto generations = std::make_shared<Generations>(
      context_.engine, [self = shared_from_this()](const ToClient& message) {
        std::visit([&](const auto& m) { self->Answer(m); }, message);
      });
  bool over = false;
  {
    absl::MutexLock lock(&mutex_);
    over = ended_;
    generations_ = generations;
  }
  if (over) return EndRefused(absl::CancelledError("the client has gone"), absl::ZeroDuration());
  if (generations->Submit(std::move(request))) return;
  EndRefused(absl::ResourceExhaustedError("the scheduler's inbox is full"), kRetryAfter);
}

void GenerateStream::Refuse(const absl::Status& status, absl::Duration retry_after) {
  if (!held_) self_ = shared_from_this();
  EndRefused(status, retry_after);
}

void GenerateStream::EndRefused(const absl::Status& status, absl::Duration retry_after) {
  context_.metrics->CountRefusal(status);
  context_.log->Add(context_.identity, status, {.status = status});
  absl::MutexLock lock(&mutex_);
  End(status, retry_after, true);
}

void GenerateStream::Answer(const StartInfo& info) {
  context_.metrics->CountPrompt(info);
  v1::GenerateResponse response =
      EncodeStart(info, context_.identity.request_id, context_.return_routes);
  if (context_.echo) {
    v1::GenerateStart* start = response.mutable_start();
    start->mutable_prompt_ids()->Add(prompt_.begin(), prompt_.end());
    start->set_prompt_text(context_.tokenizer->Decode(prompt_));
  }
  Enqueue(std::move(response));
}

// With twenty alternatives of each token a piece is half a megabyte.
void GenerateStream::Answer(const PromptOut& out) {
  for (size_t begin = 0; begin < out.logprobs.size(); begin += kPromptPieceTokens) {
    const size_t end = std::min(begin + kPromptPieceTokens, out.logprobs.size());
    Enqueue(EncodePrompt({out.position + static_cast<int32_t>(begin),
                          {out.logprobs.begin() + begin, out.logprobs.begin() + end}},
                         *context_.tokenizer));
  }
}

void GenerateStream::Answer(const ChoiceDone& done) { Enqueue(EncodeChoiceDone(done)); }

void GenerateStream::Answer(const TokensOut& out) {
  context_.metrics->CountTokens(out);
  if (out.logprobs.empty()) return Enqueue(TokenBytes(out, context_.has_routes));
  Enqueue(EncodeTokens(out, context_.has_routes, *context_.tokenizer));
}

void GenerateStream::Answer(const DoneInfo& info) {
  if (info.status.ok()) Enqueue(EncodeDone(info));
  context_.log->Add(context_.identity, StatusGiven(info.status), info);
  absl::MutexLock lock(&mutex_);
  End(info.status, info.retry_after, false);
}

absl::Status GenerateStream::StatusGiven(const absl::Status& engine) {
  absl::MutexLock lock(&mutex_);
  return ended_ ? status_ : engine;
}

void GenerateStream::Enqueue(v1::GenerateResponse response) { Enqueue(ToBytes(&response)); }

void GenerateStream::Enqueue(grpc::ByteBuffer message) {
  bool overflow = false;
  {
    absl::MutexLock lock(&mutex_);
    if (!ended_ && queue_.size() < queue_max_) {
      queue_.emplace_back().Swap(&message);  // it has no move
      if (!writing_) WriteNext();
      return;
    }
    overflow = !ended_;
    cancelling_ |= overflow;
  }
  if (overflow) {
    CancelCall(absl::ResourceExhaustedError(
        absl::StrCat("the client reads too slowly: ", queue_max_, " messages wait for it")));
  }
  Detach();  // on later messages again, should the inbox have been full
}

void GenerateStream::CancelIfStuck(absl::Time now) {
  {
    absl::MutexLock lock(&mutex_);
    const absl::Duration waited = now - write_began_;
    if (!writing_ || cancelling_ || waited <= absl::Milliseconds(kSlowClientMsMax)) return;
    cancelling_ = true;
  }
  CancelCall(absl::ResourceExhaustedError(
      absl::StrCat("the client does not read: a message waits for ", kSlowClientMsMax, " ms")));
  Detach();
}

void GenerateStream::CancelCall(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    End(why, absl::ZeroDuration(), true);
  }
  context_.grpc->TryCancel();
  absl::MutexLock lock(&mutex_);
  cancelling_ = false;
  FinishIfIdle();
}

void GenerateStream::WriteNext() {
  writing_message_.Swap(&queue_.front());
  queue_.pop_front();
  writing_ = true;
  write_began_ = absl::Now();
  StartWrite(&writing_message_);
}

void GenerateStream::End(const absl::Status& status, absl::Duration retry_after, bool drop) {
  if (drop) queue_.clear();
  if (!ended_) {
    ended_ = true;
    status_ = status;
    sent_status_ = status.ok() ? grpc::Status::OK : EncodeFailure(status, retry_after);
    if (retry_after > absl::ZeroDuration()) {
      context_.grpc->AddTrailingMetadata("grpc-retry-pushback-ms",
                                         absl::StrCat(absl::ToInt64Milliseconds(retry_after)));
    }
  }
  FinishIfIdle();
}

void GenerateStream::FinishIfIdle() {
  if (!ended_ || writing_ || cancelling_ || !queue_.empty() || finished_) return;
  finished_ = true;
  Finish(sent_status_);
}

void GenerateStream::Detach() {
  std::shared_ptr<Generations> generations;
  {
    absl::MutexLock lock(&mutex_);
    generations = generations_;
  }
  if (generations != nullptr) generations->Detach();
}

void GenerateStream::OnWriteDone(bool ok) {
  absl::MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) queue_.clear();  // the client is gone; OnCancel says so to the engine
  if (!queue_.empty()) return WriteNext();
  FinishIfIdle();
}

void GenerateStream::OnCancel() {
  {
    absl::MutexLock lock(&mutex_);
    End(absl::CancelledError("the client has gone or its deadline has passed"),
        absl::ZeroDuration(), true);
  }
  Detach();
}

void GenerateStream::OnDone() {
  context_.on_closed();
  const auto self = std::move(self_);  // may be the last reference
}

}  // namespace pregate
