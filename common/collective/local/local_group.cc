#include "common/collective/local/local_group.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"

namespace pregate {

void LocalGroup::EndLocked(const absl::Status& why) {
  if (!status_.ok()) return;
  status_ = UnsharedCopy(why);
  changed_.notify_all();
}

void LocalGroup::End(const absl::Status& why) {
  std::lock_guard lock(mutex_);
  EndLocked(why);
}

absl::Status LocalGroup::status() const {
  std::lock_guard lock(mutex_);
  return UnsharedCopy(status_);
}

absl::Status LocalGroup::Stalled() const {
  std::vector<int> missing;
  for (int rank = 0; rank < world_size_; ++rank) {
    if (!shown_[rank].here) missing.push_back(rank);
  }
  return absl::DeadlineExceededError(absl::StrCat("local: ranks ", absl::StrJoin(missing, ", "),
                                                  " did not come within ",
                                                  absl::FormatDuration(timeout_)));
}

absl::Status LocalGroup::CheckAgreement() const {
  for (int from = 0; from < world_size_; ++from) {
    for (int to = 0; to < world_size_; ++to) {
      const Shown& a = shown_[from];
      const Shown& b = shown_[to];
      const bool same_operation =
          a.row_bytes == b.row_bytes && a.send_offsets.size() == b.send_offsets.size();
      if (!same_operation ||
          (!a.send_offsets.empty() && a.send_offsets[to + 1] - a.send_offsets[to] !=
                                          b.recv_offsets[from + 1] - b.recv_offsets[from])) {
        return absl::InvalidArgumentError(
            absl::StrCat("local: ranks ", from, " and ", to, " disagree on the operation's sizes"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status LocalGroup::Arrive(int rank, Shown shown) {
  std::unique_lock lock(mutex_);
  if (!status_.ok()) return UnsharedCopy(status_);
  shown_[rank] = std::move(shown);
  const uint64_t operation = num_begun_ + 1;
  if (++num_arrived_ == world_size_) {
    if (absl::Status bad = CheckAgreement(); !bad.ok()) {
      EndLocked(bad);
      return bad;
    }
    num_arrived_ = 0;
    num_copying_ = world_size_;
    num_begun_ = operation;
    changed_.notify_all();
  } else if (!changed_.wait_for(lock, absl::ToChronoMilliseconds(timeout_),
                                [&] { return num_begun_ == operation || !status_.ok(); })) {
    EndLocked(Stalled());
  }
  return num_begun_ == operation ? absl::OkStatus() : UnsharedCopy(status_);
}

void LocalGroup::Leave() {
  std::unique_lock lock(mutex_);
  for (Shown& shown : shown_) shown.here = false;
  if (--num_copying_ == 0) changed_.notify_all();
  changed_.wait(lock, [&] { return num_copying_ == 0; });
}

absl::Status LocalGroup::AllGather(int rank, const void* mine, size_t bytes, void* all) {
  RETURN_IF_ERROR(Arrive(rank, {true, static_cast<const char*>(mine), {}, {}, bytes}));
  for (int source = 0; source < world_size_; ++source) {
    char* to = static_cast<char*>(all) + source * bytes;
    if (bytes > 0 && to != shown_[source].send) std::memcpy(to, shown_[source].send, bytes);
  }
  Leave();
  return absl::OkStatus();
}

absl::Status LocalGroup::AllToAll(int rank, const void* send,
                                  absl::Span<const int32_t> send_offsets, void* recv,
                                  absl::Span<const int32_t> recv_offsets, size_t row_bytes) {
  RETURN_IF_ERROR(
      Arrive(rank, {true, static_cast<const char*>(send), send_offsets, recv_offsets, row_bytes}));
  for (int source = 0; source < world_size_; ++source) {
    const size_t rows = recv_offsets[source + 1] - recv_offsets[source];
    if (rows * row_bytes == 0) continue;
    std::memcpy(static_cast<char*>(recv) + recv_offsets[source] * row_bytes,
                shown_[source].send + shown_[source].send_offsets[rank] * row_bytes,
                rows * row_bytes);
  }
  Leave();
  return absl::OkStatus();
}

}  // namespace pregate
