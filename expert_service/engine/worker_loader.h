// A worker from its options: for the service, and for whoever hosts one with an in-process link.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "common/config/option_set.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/worker_engine.h"

namespace pregate {

struct WorkerOptions {
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
  // 0: all units stay on the device. Missing: ChooseExpertSlots decides.
  std::optional<int32_t> expert_slots;
  int64_t device_memory_bytes = 0;  // that the memory plan may take; 0: what is free
  int32_t device_sharers = 1;       // workers still to be loaded on this device, this one included
  std::string exchange_alone = "off";
  std::string card_exchange = "calls";
  absl::Duration scheduler_lease = absl::Seconds(5);
};
void DeclareWorkerOptions(OptionSet& set, WorkerOptions* options);
// Those that every program with a worker of its own has: --model, --dtype, --device, --threads,
// --kv-cache-bytes, --expert-slots, --device-memory-bytes, --seq-slots.
void DeclareModelOptions(OptionSet& set, WorkerOptions* options);

// A worker of this process: device, weights, KV, loop. Members end in reverse order.
struct LoadedWorker {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<CollectiveFactory> collectives;  // the device's own, if it has any
  std::unique_ptr<WorkerEngine> engine;            // runs
};

// Reads the checkpoint and builds everything; says the memory plan before it allocates and its
// progress while it loads. `clock`, `collectives` and `observer` outlive the worker; `collectives`
// are for devices whose memory is the host's, and may be null: then the worker runs alone.
// `on_broken` is WorkerEngineOptions'; nothing calls it after the engine's Stop.
absl::StatusOr<LoadedWorker> LoadWorker(
    const WorkerOptions& options, Clock* clock, CollectiveFactory* collectives,
    WorkerObserver* observer, std::function<void(const absl::Status& why)> on_broken = nullptr);

}  // namespace pregate
