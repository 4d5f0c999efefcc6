// A loaded worker in this process: device, weights, KV, loop. Used by the service and by whoever
// hosts a worker with an in-process link.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/config/option_set.h"
#include "common/telemetry/log.h"
#include "expert_service/engine/worker_loop.h"
#include "expert_service/engine/worker_port.h"

namespace pregate {

struct WorkerHostOptions {
  std::string model;
  std::string dtype = "f32";
  std::string device = "cpu";
  int32_t threads = 0;  // 0: one a hardware thread
  int32_t rank = 0;
  int32_t world_size = 1;  // workers of the cell: which experts are read at start
  int64_t kv_cache_bytes = int64_t{256} << 20;
  int32_t kv_blocks = 0;  // 0: from kv_cache_bytes
  int32_t step_tokens = 256;
  int32_t seq_slots = 64;
  int32_t context_tokens = 0;  // 0: the model's
  int32_t expert_slots = 0;    // 0: all units stay on the device
  std::string exchange_alone = "off";
  absl::Duration scheduler_lease = absl::Seconds(5);
};
void DeclareWorkerHostOptions(OptionSet& set, WorkerHostOptions* options);

// Thread-safe after Load.
class WorkerHost final : public WorkerPort {
 public:
  // Reads the checkpoint and builds everything; logs the memory plan before it allocates and its
  // progress while it loads. `clock`, `log` and `collectives` outlive the host; the last is for
  // devices whose memory is the host's, and may be null: then the worker runs alone. `on_broken` is
  // WorkerOptions'; nothing calls it after Stop.
  static absl::StatusOr<std::unique_ptr<WorkerHost>> Load(
      const WorkerHostOptions& options, std::string config_digest, Clock* clock, const Log* log,
      CollectiveFactory* collectives,
      std::function<void(const absl::Status& why)> on_broken = nullptr);
  ~WorkerHost() override;

  LinkId Attach(Worker::Send send) override;
  bool Submit(LinkId link, ToWorker message) override;
  void Disconnected(LinkId link) override;
  LinkId holder() const override;

  absl::Time last_progress() const;
  const MemoryPlan& memory() const;
  int32_t rank() const;
  ResidencyStats residency() const;
  // Ends the step that runs at its next layer, then the loop. Idempotent.
  void Stop();

 private:
  struct State;
  explicit WorkerHost(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate
