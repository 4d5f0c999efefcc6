#include "expert_service/edge/worker_collectives.h"

#include <utility>

#include "common/base/status.h"
#include "common/collective/gloo/gloo_factory.h"

namespace pregate {

void WorkerCollectives::Open(Address own) {
  if (own.is_wildcard()) own.host = host_;
  absl::MutexLock lock(&mutex_);
  meeting_ = std::make_unique<MeetClient>(table_, std::move(own), security_);
}

absl::StatusOr<std::string> WorkerCollectives::MakeRendezvous() {
  absl::MutexLock lock(&mutex_);
  if (!meeting_) return absl::UnavailableError("the worker does not listen yet");
  return meeting_->MakeRendezvous();
}

absl::StatusOr<CollectiveFactory*> WorkerCollectives::Gloo() {
  absl::MutexLock lock(&mutex_);
  if (!meeting_) return absl::UnavailableError("the worker does not listen yet");
  if (!gloo_) {
    ASSIGN_OR_RETURN(gloo_, MakeGlooFactory({.host = host_}, meeting_.get()));
  }
  return gloo_.get();
}

absl::StatusOr<std::unique_ptr<Collective>> WorkerCollectives::Join(const std::string& rendezvous,
                                                                    int rank, int world_size,
                                                                    absl::Duration timeout,
                                                                    std::stop_token stop) {
  ASSIGN_OR_RETURN(CollectiveFactory * gloo, Gloo());
  return gloo->Join(rendezvous, rank, world_size, timeout, std::move(stop));
}

}  // namespace pregate
