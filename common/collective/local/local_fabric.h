// Collectives between threads of one process (`pregate serve --workers 2`).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "common/collective/collective.h"
#include "common/collective/meeting.h"

namespace pregate {

class LocalGroup;

// Owned by whoever starts the workers; it is every worker's factory and outlives their groups.
//
// An operation ends at every rank or at none: it is decided when the last rank arrives. Sizes that
// do not agree between ranks are an INVALID_ARGUMENT for all.
class LocalFabric final : public CollectiveFactory {
 public:
  // `operation_timeout`: how long an operation waits for the last rank.
  explicit LocalFabric(absl::Duration operation_timeout = kCollectiveTimeout)
      : operation_timeout_(operation_timeout) {}

  absl::StatusOr<std::string> MakeRendezvous() override { return meeting_.MakeRendezvous(); }
  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                   int world_size, absl::Duration timeout,
                                                   std::stop_token stop) override;

 private:
  struct Joining {
    std::shared_ptr<LocalGroup> group;
    int num_joined = 0;  // the entry goes when all have the group
  };

  std::shared_ptr<LocalGroup> GroupOf(const std::string& rendezvous, int world_size);

  const absl::Duration operation_timeout_;
  InProcessMeeting meeting_;
  std::mutex mutex_;
  std::map<std::string, Joining> joining_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
