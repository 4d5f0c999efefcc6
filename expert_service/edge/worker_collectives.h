// How a worker process finds and exchanges with its peers: ExpertWorker.Meet, then Gloo.
#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/collective/collective.h"
#include "common/collective/rendezvous_table.h"
#include "common/config/address.h"
#include "expert_service/edge/meet_client.h"
#include "expert_service/edge/meet_messages.h"
#include "expert_service/edge/meet_service.h"

namespace pregate {

// Thread-safe. Outlives the server of its service.
class WorkerCollectives final : public CollectiveFactory {
 public:
  // `host`: the address of this machine that peers dial for Gloo's connections, and for Meet where
  // the service answers at a wildcard. `security` outlives the object.
  WorkerCollectives(std::string host, const Security* security)
      : host_(std::move(host)),
        security_(security),
        table_(std::make_shared<RendezvousTable>(MeetLimits())),
        service_(table_) {}

  MeetService* service() { return &service_; }
  // `service` answers at `own`, as bound. Before, there is no rendezvous: UNAVAILABLE.
  void Open(Address own);

  absl::StatusOr<std::string> MakeRendezvous() override;
  absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                   int world_size, absl::Duration timeout,
                                                   std::stop_token stop) override;

 private:
  absl::StatusOr<CollectiveFactory*> Gloo();

  const std::string host_;
  const Security* const security_;
  const std::shared_ptr<RendezvousTable> table_;
  MeetService service_;
  absl::Mutex mutex_;
  std::unique_ptr<MeetClient> meeting_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<CollectiveFactory> gloo_ ABSL_GUARDED_BY(mutex_);  // from the first Join on
};

}  // namespace pregate
