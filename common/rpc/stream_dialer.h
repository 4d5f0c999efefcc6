// Keeps one stream to a service open: dials, dials again with backoff when it breaks, and says when
// it went down. The links of the scheduler to workers and router are made of it.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/random/random.h"
#include "absl/synchronization/mutex.h"
#include "common/rpc/client_stream.h"

namespace pregate {

// Send is thread-safe and never blocks. One thread of its own waits for ends and backoffs.
template <typename Response>
class StreamDialer {
 public:
  using Stream = ClientStream<Response>;
  struct Handlers {
    OpenStream open;
    typename Stream::OnMessage on_message;
    // On the dialer's thread, once for each connection that gave a message, after its last one.
    std::function<void(const absl::Status& why)> on_down;
    // On the dialer's thread, when a connection ended before its first message.
    std::function<void(const absl::Status& why)> on_dial_failed;
  };

  explicit StreamDialer(Handlers handlers)
      : handlers_(std::move(handlers)), thread_([this] { Run(); }) {}

  // on_down is not called for the end that this makes.
  ~StreamDialer() {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      if (stream_ != nullptr) stream_->Cancel(absl::CancelledError("stopped"));
    }
    thread_.join();
  }

  // Messages sent while there is no connection are lost.
  void Send(grpc::ByteBuffer message) {
    absl::MutexLock lock(&mutex_);
    if (stream_ != nullptr) stream_->Send(std::move(message));
  }

 private:
  void Run() {
    absl::Duration backoff = absl::Milliseconds(kReconnectBackoffMsMin);
    while (Connect()) {
      const bool heard = stream_->AwaitFirstMessage(absl::Milliseconds(kConnectTimeoutMs));
      if (!heard) stream_->Cancel(absl::DeadlineExceededError("no answer to the dial"));
      const absl::Status why = stream_->AwaitEnd();
      if (Disconnect()) return;
      (heard ? handlers_.on_down : handlers_.on_dial_failed)(why);
      backoff = heard ? absl::Milliseconds(kReconnectBackoffMsMin)
                      : std::min(backoff * 2, absl::Milliseconds(kReconnectBackoffMsMax));
      // Half of it is random, so that many links do not dial in step.
      if (StoppedWithin(absl::Uniform(jitter_, 0.5, 1.0) * backoff)) return;
    }
  }

  bool Connect() {
    absl::MutexLock lock(&mutex_);
    if (!stopping_) stream_ = std::make_unique<Stream>(handlers_.open, handlers_.on_message);
    return !stopping_;
  }
  bool Disconnect() {
    absl::MutexLock lock(&mutex_);
    stream_.reset();
    return stopping_;
  }
  bool StoppedWithin(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&stopping_), timeout);
  }

  const Handlers handlers_;
  absl::Mutex mutex_;
  // Set and reset by the dialer's thread only, which may therefore use it without the lock.
  std::unique_ptr<Stream> stream_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::BitGen jitter_;  // the dialer's thread only
  std::thread thread_;
};

}  // namespace pregate
