#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/rpc/status.h"
#include "gateway_service/edge/scheduler_pool.h"

namespace pregate::gateway {

// One gRPC call. Deletes itself when gRPC is done with it.
class GenerateCall::Attempt final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  Attempt(std::shared_ptr<GenerateCall> call, const SchedulerPool::Lease& lease)
      : call_(std::move(call)), lease_(lease) {
    const GenerateJob& job = call_->job_;
    if (job.deadline < absl::InfiniteFuture()) {
      context_.set_deadline(absl::ToChronoTime(job.deadline));
    }
    if (!job.traceparent.empty()) context_.AddMetadata("traceparent", job.traceparent);
  }

  void Begin() {
    lease_.stub->async()->Generate(&context_, &call_->job_.request, this);
    AddHold();  // reads begin outside of gRPC's callbacks, too, until Finish
    StartRead(&message_);
    StartCall();
  }
  void Read() { StartRead(&message_); }
  void Finish() { RemoveHold(); }
  void Cancel() { context_.TryCancel(); }

  const v1::GenerateResponse& message() const { return message_; }
  const SchedulerPool::Lease& lease() const { return lease_; }
  absl::Duration retry_after() const {
    const auto& trailing = context_.GetServerTrailingMetadata();
    const auto found = trailing.find("grpc-retry-pushback-ms");
    int64_t ms = 0;
    if (found == trailing.end() ||
        !absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()), &ms)) {
      return absl::ZeroDuration();
    }
    return absl::Milliseconds(ms);
  }

 private:
  void OnReadDone(bool ok) override { call_->OnRead(this, ok); }
  void OnDone(const grpc::Status& status) override {
    call_->OnDone(this, status);
    delete this;
  }

  const std::shared_ptr<GenerateCall> call_;
  const SchedulerPool::Lease lease_;
  grpc::ClientContext context_;
  v1::GenerateResponse message_;
};

void GenerateCall::Begin() {
  if (!BeginAttempt()) End(absl::UnavailableError("no scheduler is ready"), absl::ZeroDuration());
}

bool GenerateCall::BeginAttempt() {
  const SchedulerPool::Lease lease = pool_->Acquire(job_.request.model(), tried_);
  if (lease.scheduler == nullptr) return false;
  tried_.insert(lease.scheduler);
  auto* const attempt = new Attempt(shared_from_this(), lease);
  absl::MutexLock lock(&mutex_);
  attempt_ = attempt;
  attempt->Begin();
  if (cancelled_) attempt->Cancel();
  return true;
}

void GenerateCall::OnRead(Attempt* attempt, bool ok) {
  if (!ok) {
    {
      absl::MutexLock lock(&mutex_);
      attempt_ = nullptr;
    }
    return attempt->Finish();
  }
  heard_ = true;
  const bool go_on = listener_->OnMessage(attempt->message());
  absl::MutexLock lock(&mutex_);
  paused_ = !go_on && !std::exchange(resumed_early_, false) && !cancelled_;
  if (!paused_) attempt->Read();
}

void GenerateCall::Resume() {
  absl::MutexLock lock(&mutex_);
  if (attempt_ == nullptr) return;
  if (std::exchange(paused_, false)) {
    attempt_->Read();
  } else {
    resumed_early_ = true;  // OnMessage has yet to return
  }
}

void GenerateCall::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (std::exchange(cancelled_, true) || attempt_ == nullptr) return;
  attempt_->Cancel();
  if (std::exchange(paused_, false)) attempt_->Read();  // whose end ends the call
}

void GenerateCall::OnDone(Attempt* attempt, const grpc::Status& status) {
  pool_->Release(attempt->lease());
  const absl::Status end = FromGrpcStatus(status);
  const bool refused = absl::IsUnavailable(end) || absl::IsResourceExhausted(end);
  const bool cancelled = [this] {
    absl::MutexLock lock(&mutex_);
    return cancelled_;
  }();
  if (refused && !heard_ && !cancelled && BeginAttempt()) return;
  End(end, attempt->retry_after());
}

void GenerateCall::End(const absl::Status& status, absl::Duration retry_after) {
  std::exchange(listener_, nullptr)->OnEnd(status, retry_after);
  pool_->Forget(shared_from_this());
}

}  // namespace pregate::gateway
