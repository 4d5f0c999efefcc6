// Says of a rank, to any thread, whether it stands in an operation with others: then what holds it
// up is one of them.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "common/collective/collective.h"

namespace pregate {

// True as long as one lives.
class PeerWait {
 public:
  explicit PeerWait(std::atomic<bool>* waits) : waits_(waits) { *waits_ = true; }
  ~PeerWait() { *waits_ = false; }
  PeerWait(const PeerWait&) = delete;
  PeerWait& operator=(const PeerWait&) = delete;

 private:
  std::atomic<bool>* const waits_;
};

// `group`, with a PeerWait around what waits. `waits` outlives it.
class WatchedCollective final : public Collective {
 public:
  WatchedCollective(std::unique_ptr<Collective> group, std::atomic<bool>* waits)
      : group_(std::move(group)), waits_(waits) {}

  int rank() const override { return group_->rank(); }
  int world_size() const override { return group_->world_size(); }
  absl::string_view name() const override { return group_->name(); }
  bool enqueues() const override { return group_->enqueues(); }
  int64_t bytes_sent() const override { return group_->bytes_sent(); }
  void Abort() override { group_->Abort(); }

  absl::Status AllGather(const void* mine, size_t bytes, void* all) override {
    const PeerWait wait(waits_);
    return group_->AllGather(mine, bytes, all);
  }
  absl::Status AllToAll(const void* send, absl::Span<const int32_t> send_offsets, void* recv,
                        absl::Span<const int32_t> recv_offsets, size_t row_bytes) override {
    const PeerWait wait(waits_);
    return group_->AllToAll(send, send_offsets, recv, recv_offsets, row_bytes);
  }
  absl::Status Wait() override {
    const PeerWait wait(waits_);
    return group_->Wait();
  }

 private:
  const std::unique_ptr<Collective> group_;
  std::atomic<bool>* const waits_;
};

}  // namespace pregate
