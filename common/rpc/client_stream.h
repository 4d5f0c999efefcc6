// The client's end of a bidirectional stream between services; StreamDialer opens one after
// another.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/client_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/message_bytes.h"
#include "common/rpc/status.h"

namespace pregate {

using ClientBytesReactor = grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;
// Readies a call for a reactor, which starts it.
using OpenStream = std::function<void(grpc::ClientContext*, ClientBytesReactor*)>;

// `method` is a bidirectional stream's, "/package.Service/Method".
inline OpenStream OpenOn(const std::shared_ptr<grpc::Channel>& channel, std::string method) {
  return [stub = std::make_shared<grpc::GenericStub>(channel), method = std::move(method)](
             grpc::ClientContext* context, ClientBytesReactor* reactor) {
    stub->PrepareBidiStreamingCall(context, method, {}, reactor);
  };
}

// Thread-safe; nothing blocks but AwaitFirstMessage and AwaitEnd. Must outlive AwaitEnd's return.
template <typename Response>
class ClientStream final : public ClientBytesReactor {
 public:
  // On gRPC's threads, one at a time; an error cancels the stream with it, and so does a message
  // that cannot be decoded.
  using OnMessage = std::function<absl::Status(const Response&)>;

  ClientStream(const OpenStream& open, OnMessage on_message) : on_message_(std::move(on_message)) {
    open(&context_, this);
    this->AddHold();  // writes start outside of gRPC's callbacks until Stop
    this->StartRead(&response_bytes_);
    this->StartCall();
  }

  // False when the stream ends or its queue is full: the message is lost.
  bool Send(grpc::ByteBuffer message) {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return false;
    if (queue_.size() >= static_cast<size_t>(kLinkQueueMessages)) {
      StopLocked(absl::ResourceExhaustedError("the peer reads too slowly"));
      return false;
    }
    queue_.push_back(std::move(message));
    if (!writing_) WriteNext();
    return true;
  }

  void Cancel(const absl::Status& why) {
    absl::MutexLock lock(&mutex_);
    StopLocked(why);
  }

  // False when the stream ended or `timeout` passed without one.
  bool AwaitFirstMessage(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &ClientStream::HeardOrEnded), timeout);
    return heard_;
  }

  // Why it ended: what Cancel or on_message said, else the server's status. No callback runs later.
  absl::Status AwaitEnd() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&stopped_));
    const absl::Duration status_wait_max = absl::Milliseconds(kConnectTimeoutMs);
    if (!mutex_.AwaitWithTimeout(absl::Condition(&ended_), status_wait_max)) context_.TryCancel();
    mutex_.Await(absl::Condition(&ended_));
    return !why_.ok() ? why_ : status_;
  }

 private:
  bool HeardOrEnded() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return heard_ || ended_; }

  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    request_bytes_ = std::move(queue_.front());
    queue_.pop_front();
    writing_ = true;
    this->StartWrite(&request_bytes_);
  }

  // Nothing is written from now on; gRPC calls OnDone when its own work has ended.
  void StopLocked(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!why.ok()) context_.TryCancel();  // also a stream that waits for its server's status
    if (stopped_) return;
    stopped_ = true;
    why_ = why;
    queue_.clear();
    this->RemoveHold();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Cancel(absl::OkStatus());  // the server's status says why
    const absl::Status status = Take();
    {
      absl::MutexLock lock(&mutex_);
      heard_ = true;
      if (!status.ok()) return StopLocked(status);
    }
    this->StartRead(&response_bytes_);
  }

  absl::Status Take() {
    RETURN_IF_ERROR(FromBytes(&response_bytes_, &response_));
    return on_message_(response_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) context_.TryCancel();  // the read then fails, and ends it
    if (ok && !stopped_ && !queue_.empty()) WriteNext();
  }

  void OnDone(const grpc::Status& status) override {
    absl::MutexLock lock(&mutex_);
    status_ = FromGrpcStatus(status);
    ended_ = true;
  }

  const OnMessage on_message_;
  grpc::ClientContext context_;
  grpc::ByteBuffer response_bytes_;
  Response response_;

  absl::Mutex mutex_;
  std::deque<grpc::ByteBuffer> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer request_bytes_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool heard_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
