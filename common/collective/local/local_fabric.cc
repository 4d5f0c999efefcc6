#include "common/collective/local/local_fabric.h"

#include "common/base/status.h"
#include "common/collective/exchange_check.h"
#include "common/collective/local/local_group.h"

namespace pregate {
namespace {

class LocalCollective final : public Collective {
 public:
  LocalCollective(std::shared_ptr<LocalGroup> group, int rank)
      : group_(std::move(group)), rank_(rank) {}
  ~LocalCollective() override {
    group_->End(absl::UnavailableError(absl::StrCat("local: rank ", rank_, " left the group")));
  }

  int rank() const override { return rank_; }
  int world_size() const override { return group_->world_size(); }
  absl::string_view name() const override { return "local"; }
  bool enqueues() const override { return false; }
  int64_t bytes_sent() const override { return bytes_sent_; }

  absl::Status AllGather(const void* mine, size_t bytes, void* all) override {
    bytes_sent_ += int64_t(bytes) * (world_size() - 1);
    return group_->AllGather(rank_, mine, bytes, all);
  }
  absl::Status AllToAll(const void* send, absl::Span<const int32_t> send_offsets, void* recv,
                        absl::Span<const int32_t> recv_offsets, size_t row_bytes) override {
    if (absl::Status bad = CheckOffsets(rank_, world_size(), send_offsets, recv_offsets);
        !bad.ok()) {
      group_->End(bad);
    } else {
      bytes_sent_ += RemoteRows(rank_, send_offsets) * int64_t(row_bytes);
    }
    return group_->AllToAll(rank_, send, send_offsets, recv, recv_offsets, row_bytes);
  }
  absl::Status Wait() override { return group_->status(); }
  void Abort() override {
    group_->End(absl::AbortedError(absl::StrCat("local: rank ", rank_, " aborted the group")));
  }

 private:
  const std::shared_ptr<LocalGroup> group_;
  const int rank_;
  int64_t bytes_sent_ = 0;
};

}  // namespace

std::shared_ptr<LocalGroup> LocalFabric::GroupOf(const std::string& rendezvous, int world_size) {
  std::lock_guard lock(mutex_);
  Joining& joining = joining_[rendezvous];
  if (joining.group == nullptr) {
    joining.group = std::make_shared<LocalGroup>(world_size, operation_timeout_);
  }
  std::shared_ptr<LocalGroup> group = joining.group;
  if (++joining.num_joined == world_size) joining_.erase(rendezvous);
  return group;
}

absl::StatusOr<std::unique_ptr<Collective>> LocalFabric::Join(const std::string& rendezvous,
                                                              int rank, int world_size,
                                                              absl::Duration timeout,
                                                              std::stop_token stop) {
  RETURN_IF_ERROR(CheckMembership(rank, world_size));
  RETURN_IF_ERROR(
      meeting_.Meet(rendezvous, rank, world_size, "", timeout, std::move(stop)).status());
  return std::make_unique<LocalCollective>(GroupOf(rendezvous, world_size), rank);
}

}  // namespace pregate
