// The server's end of a bidirectional stream between services: reads one message at a time, writes
// from a bounded queue, one write at a time (gRPC's callback API asserts otherwise).
#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/message_bytes.h"
#include "common/rpc/status.h"

namespace pregate {

using ServerBytesReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

// Send and Close are thread-safe and never block. The stream keeps itself alive until on_closed has
// returned; whoever holds it longer may still call Send, to no effect.
template <typename Request, typename Response>
class ServerStream final : public ServerBytesReactor,
                           public std::enable_shared_from_this<ServerStream<Request, Response>> {
 public:
  struct Handlers {
    // On gRPC's threads, one at a time; an error closes the stream with it, and so does a message
    // that cannot be decoded.
    std::function<absl::Status(const Request&)> on_message;
    // Once and last, as long as the call's context is there.
    std::function<void(const absl::Status& why)> on_closed;
  };

  // Call once, on a stream made by make_shared, before gRPC gets it.
  void Begin(Handlers handlers) {
    handlers_ = std::move(handlers);
    self_ = this->shared_from_this();
    this->StartRead(&request_bytes_);
  }

  // A peer that lets kLinkQueueMessages pile up is disconnected.
  void Send(Response message) {
    absl::MutexLock lock(&mutex_);
    if (closing_) return;
    if (queue_.size() >= static_cast<size_t>(kLinkQueueMessages)) {
      return CloseLocked(absl::ResourceExhaustedError("the peer reads too slowly"));
    }
    queue_.push_back(std::move(message));
    if (!writing_) WriteNext();
  }

  // Ends the stream with `status`; what is queued is dropped.
  void Close(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    CloseLocked(status);
  }

 private:
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    response_bytes_ = ToBytes(&queue_.front());
    queue_.pop_front();
    writing_ = true;
    this->StartWrite(&response_bytes_);
  }

  void CloseLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (closing_) return;
    closing_ = true;
    why_ = status;
    queue_.clear();
    if (!writing_) this->Finish(ToGrpcStatus(why_));  // else when the write is done
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());
    const absl::Status status = Take();
    if (!status.ok()) return Close(status);
    this->StartRead(&request_bytes_);
  }

  absl::Status Take() {
    RETURN_IF_ERROR(FromBytes(&request_bytes_, &request_));
    return handlers_.on_message(request_);
  }

  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (closing_) return this->Finish(ToGrpcStatus(why_));
    if (!ok) return CloseLocked(absl::OkStatus());
    if (!queue_.empty()) WriteNext();
  }

  void OnDone() override ABSL_NO_THREAD_SAFETY_ANALYSIS {  // nothing else runs any more
    handlers_.on_closed(why_);
    const auto self = std::move(self_);  // may be the last reference
  }

  Handlers handlers_;
  std::shared_ptr<ServerStream> self_;
  grpc::ByteBuffer request_bytes_;
  Request request_;

  absl::Mutex mutex_;
  std::deque<Response> queue_ ABSL_GUARDED_BY(mutex_);
  grpc::ByteBuffer response_bytes_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
