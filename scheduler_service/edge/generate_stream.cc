#include "scheduler_service/edge/generate_stream.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/rpc/message_bytes.h"
#include "scheduler_service/edge/inference_codec.h"
#include "scheduler_service/edge/request_log.h"
#include "scheduler_service/edge/scheduler_metrics.h"

namespace pregate {

void GenerateStream::Submit(GenerateRequest request) {
  self_ = shared_from_this();
  link_ = context_.engine->Attach([self = self_](const ToClient& message) {
    std::visit([&](const auto& m) { self->Answer(m); }, message);
  });
  if (context_.engine->Submit(link_, std::move(request))) return;
  EndRefused(absl::ResourceExhaustedError("the scheduler's inbox is full"), kRetryAfter);
}

void GenerateStream::Refuse(const absl::Status& status, absl::Duration retry_after) {
  self_ = shared_from_this();
  EndRefused(status, retry_after);
}

void GenerateStream::EndRefused(const absl::Status& status, absl::Duration retry_after) {
  context_.metrics->CountRefusal(status);
  context_.log->Add(context_.request_id, context_.tenant, status, {.status = status});
  absl::MutexLock lock(&mutex_);
  End(status, retry_after, true);
}

void GenerateStream::Answer(const StartInfo& info) {
  context_.metrics->CountPrompt(info);
  Enqueue(EncodeStart(info, context_.request_id, context_.return_routes));
}

void GenerateStream::Answer(const TokensOut& out) {
  context_.metrics->CountTokens(out);
  Enqueue(EncodeTokens(out, context_.has_routes));
}

void GenerateStream::Answer(const DoneInfo& info) {
  if (info.status.ok()) Enqueue(EncodeDone(info));
  context_.log->Add(context_.request_id, context_.tenant, StatusGiven(info.status), info);
  absl::MutexLock lock(&mutex_);
  End(info.status, info.retry_after, false);
}

absl::Status GenerateStream::StatusGiven(const absl::Status& engine) {
  absl::MutexLock lock(&mutex_);
  return ended_ ? status_ : engine;
}

void GenerateStream::Enqueue(v1::GenerateResponse response) {
  bool overflow = false;
  {
    absl::MutexLock lock(&mutex_);
    if (!ended_ && queue_.size() < static_cast<size_t>(kStreamQueueMessages)) {
      queue_.push_back(std::move(response));
      if (!writing_) WriteNext();
      return;
    }
    overflow = !ended_;
    cancelling_ |= overflow;
  }
  if (overflow) {
    CancelCall(absl::ResourceExhaustedError(absl::StrCat(
        "the client reads too slowly: ", kStreamQueueMessages, " messages wait for it")));
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
  writing_message_ = ToBytes(&queue_.front());
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
  if (link_ != 0) context_.engine->Detach(link_);
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
