// How a worker process finds and exchanges with its peers: ExpertWorker.Meet, then Gloo.
#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/collective/collective.h"
#include "common/collective/meeting_room.h"
#include "common/config/address.h"
#include "expert_service/edge/meet_client.h"
#include "expert_service/edge/meet_service.h"

namespace pregate {

// Thread-safe. Outlives the server of its service.
class WorkerCollectives final : public CollectiveFactory {
 public:
  // `host`: the address of this machine that peers dial for Gloo's connections.
  explicit WorkerCollectives(std::string host)
      : host_(std::move(host)),
        room_(std::make_shared<MeetingRoom>(MeetLimits())),
        service_(room_) {}

  MeetService* service() { return &service_; }
  // `service` answers at `own`. Before, there is no rendezvous: UNAVAILABLE.
  void Open(Address own);

  absl::StatusOr<std::string> MakeRendezvous() override;
  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                   int world_size, absl::Duration timeout) override;

 private:
  absl::StatusOr<CollectiveFactory*> Gloo();

  const std::string host_;
  const std::shared_ptr<MeetingRoom> room_;
  MeetService service_;
  absl::Mutex mutex_;
  std::unique_ptr<MeetClient> meeting_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<CollectiveFactory> gloo_ ABSL_GUARDED_BY(mutex_);  // from the first Join on
};

}  // namespace pregate
