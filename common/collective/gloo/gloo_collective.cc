#include "common/collective/gloo/gloo_collective.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/collective/exchange_check.h"
#include "common/collective/gloo/gloo_status.h"

namespace pregate {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// What is left until `deadline`, at least 1 ms: Gloo reads 0 and less as "no limit".
milliseconds Left(steady_clock::time_point deadline) {
  return std::max(milliseconds(1),
                  std::chrono::duration_cast<milliseconds>(deadline - steady_clock::now()));
}

}  // namespace

// The buffers of one operation, known to Abort while it lives.
class GlooCollective::Running {
 public:
  Running(GlooCollective* group, const Buffer& send, const Buffer& recv)
      : group_(group),
        sending_(group->context_->createUnboundBuffer(send.data, send.bytes)),
        receiving_(group->context_->createUnboundBuffer(recv.data, recv.bytes)) {
    Show(sending_.get(), receiving_.get());
  }
  ~Running() { Show(nullptr, nullptr); }

  gloo::transport::UnboundBuffer& sending() { return *sending_; }
  gloo::transport::UnboundBuffer& receiving() { return *receiving_; }

 private:
  void Show(gloo::transport::UnboundBuffer* sending, gloo::transport::UnboundBuffer* receiving) {
    std::lock_guard lock(group_->mutex_);
    group_->sending_ = sending;
    group_->receiving_ = receiving;
  }

  GlooCollective* const group_;
  const std::unique_ptr<gloo::transport::UnboundBuffer> sending_;
  const std::unique_ptr<gloo::transport::UnboundBuffer> receiving_;
};

GlooCollective::~GlooCollective() { Abort(); }

// Peers see the closed connections at once.
absl::Status GlooCollective::Fail(const absl::Status& why) {
  std::lock_guard lock(mutex_);
  if (status_.ok()) {
    status_ = UnsharedCopy(why);
    context_->closeConnections();
  }
  return UnsharedCopy(status_);
}

void GlooCollective::Abort() {
  Fail(absl::AbortedError("gloo: this rank aborted the group")).IgnoreError();
  std::lock_guard lock(mutex_);
  // A wait that has not begun returns at once as well: the flag stays until then.
  if (sending_ != nullptr) sending_->abortWaitSend();
  if (receiving_ != nullptr) receiving_->abortWaitRecv();
}

absl::Status GlooCollective::Wait() {
  std::lock_guard lock(mutex_);
  return UnsharedCopy(status_);
}

absl::Status GlooCollective::SendAndReceive(const Buffer& send, const Buffer& recv) {
  const auto deadline = steady_clock::now() + absl::ToChronoMilliseconds(timeout_);
  const absl::Status aborted = absl::AbortedError("gloo: aborted");
  const uint64_t tag = ++operation_;
  Running running(this, send, recv);
  RETURN_IF_ERROR(Wait());  // an Abort before `running` was known has woken nothing
  int num_sends = 0;
  int num_receives = 0;
  for (int peer = 0; peer < world_size(); ++peer) {
    const Part& part = recv.parts[peer];
    if (part.bytes == 0) continue;
    running.receiving().recv(peer, tag, part.offset, part.bytes);
    ++num_receives;
  }
  for (int peer = 0; peer < world_size(); ++peer) {
    const Part& part = send.parts[peer];
    if (part.bytes == 0) continue;
    running.sending().send(peer, tag, part.offset, part.bytes);
    bytes_sent_ += static_cast<int64_t>(part.bytes);
    ++num_sends;
  }
  for (; num_receives > 0; --num_receives) {
    if (!running.receiving().waitRecv(nullptr, Left(deadline))) return aborted;
  }
  for (; num_sends > 0; --num_sends) {
    if (!running.sending().waitSend(nullptr, Left(deadline))) return aborted;
  }
  return absl::OkStatus();
}

absl::Status GlooCollective::Exchange(const Buffer& send, const Buffer& recv) {
  const absl::Status done = CatchGloo("exchange", [&] { return SendAndReceive(send, recv); });
  return done.ok() ? done : Fail(done);
}

absl::Status GlooCollective::AllGather(const void* mine, size_t bytes, void* all) {
  RETURN_IF_ERROR(Wait());
  char* own = static_cast<char*>(all) + rank() * bytes;
  if (bytes > 0 && own != mine) std::memcpy(own, mine, bytes);
  Buffer send{own, bytes, Parts(world_size())};
  Buffer recv{all, bytes * world_size(), Parts(world_size())};
  for (int peer = 0; peer < world_size(); ++peer) {
    if (peer == rank()) continue;
    send.parts[peer] = {0, bytes};
    recv.parts[peer] = {peer * bytes, bytes};
  }
  return Exchange(send, recv);
}

absl::Status GlooCollective::AllToAll(const void* send, absl::Span<const int32_t> send_offsets,
                                      void* recv, absl::Span<const int32_t> recv_offsets,
                                      size_t row_bytes) {
  RETURN_IF_ERROR(Wait());
  if (absl::Status bad = CheckOffsets(rank(), world_size(), send_offsets, recv_offsets);
      !bad.ok()) {
    return Fail(bad);
  }
  const auto part = [row_bytes](absl::Span<const int32_t> offsets, int peer) {
    return Part{offsets[peer] * row_bytes, (offsets[peer + 1] - offsets[peer]) * row_bytes};
  };
  // Gloo takes no const, but only reads what it sends.
  Buffer from{const_cast<void*>(send), send_offsets.back() * row_bytes, Parts(world_size())};
  Buffer to{recv, recv_offsets.back() * row_bytes, Parts(world_size())};
  for (int peer = 0; peer < world_size(); ++peer) {
    if (peer == rank()) continue;
    from.parts[peer] = part(send_offsets, peer);
    to.parts[peer] = part(recv_offsets, peer);
  }
  const Part own_from = part(send_offsets, rank());
  const Part own_to = part(recv_offsets, rank());
  if (own_from.bytes > 0) {
    std::memcpy(static_cast<char*>(recv) + own_to.offset,
                static_cast<const char*>(send) + own_from.offset, own_from.bytes);
  }
  return Exchange(from, to);
}

}  // namespace pregate
