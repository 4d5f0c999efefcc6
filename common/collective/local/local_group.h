// What the ranks of a local group share: where each rank's memory is, and who has arrived.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace pregate {

// Thread-safe. An operation in three acts:
//
//   arrive   each rank shows its memory and waits for the last one; End or the timeout breaks this
//   copy     each rank copies what is for it out of the others' memory, without the lock
//   leave    no rank returns, and frees its memory, before the last copy is done
//
// Once the last rank has arrived nothing but copies is left, so from there on End changes later
// operations only.
class LocalGroup {
 public:
  LocalGroup(int world_size, absl::Duration timeout)
      : world_size_(world_size), timeout_(timeout), shown_(world_size) {}

  int world_size() const { return world_size_; }
  absl::Status AllGather(int rank, const void* mine, size_t bytes, void* all);
  absl::Status AllToAll(int rank, const void* send, absl::Span<const int32_t> send_offsets,
                        void* recv, absl::Span<const int32_t> recv_offsets, size_t row_bytes);
  // The first one's error stands.
  void End(const absl::Status& why);
  absl::Status status() const;

 private:
  // What a rank shows; no offsets: an AllGather, of one row.
  struct Shown {
    bool here = false;
    const char* send = nullptr;
    absl::Span<const int32_t> send_offsets;
    absl::Span<const int32_t> recv_offsets;
    size_t row_bytes = 0;
  };

  absl::Status Arrive(int rank, Shown shown);
  void Leave();
  absl::Status CheckAgreement() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLocked(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Stalled() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int world_size_;
  const absl::Duration timeout_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // Written under the lock while ranks arrive, read without it while they copy.
  std::vector<Shown> shown_;
  int num_arrived_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_copying_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t num_begun_ ABSL_GUARDED_BY(mutex_) = 0;  // operations that reached their second act
};

}  // namespace pregate
