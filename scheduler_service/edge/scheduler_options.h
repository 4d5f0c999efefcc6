// The options of the scheduler as a service.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/config/option_set.h"
#include "common/rpc/service.h"
#include "scheduler_service/engine/options.h"

namespace pregate {

struct SchedulerServerOptions {
  PortOptions ports{.listen = "127.0.0.1:7600", .metrics_listen = "127.0.0.1:7601"};

  int32_t queue_max = 256;
  int32_t step_tokens = 256;
  int32_t running_max = 1024;
  std::string run_ahead = "on";
  std::string decode_routing = "replica";
  std::string batching = "by_expert";
  int32_t batch_age_steps = 8;
  int32_t batch_experts_max = 0;
  std::string eviction = "next_use";
  int32_t preemptions_max = 4;
  absl::Duration worker_silence_timeout = absl::Milliseconds(700);
  absl::Duration worker_stall_timeout = absl::Seconds(15);
  absl::Duration form_wait = absl::Seconds(1);
  absl::Duration grow_wait = absl::Seconds(10);
  absl::Duration drain_timeout = absl::Seconds(30);
};
void DeclareSchedulerServerOptions(OptionSet& set, SchedulerServerOptions* options);

// Whom the scheduler dials.
struct SchedulerLinkOptions {
  std::vector<std::string> workers = {"127.0.0.1:7620"};
  std::string router = "127.0.0.1:7610";
};
void DeclareSchedulerLinkOptions(OptionSet& set, SchedulerLinkOptions* options);

// `scheduler_id`: random per process. `model_digest`: what workers must say.
EngineOptions ToEngineOptions(const SchedulerServerOptions& options, std::string scheduler_id,
                              std::string model_digest);

}  // namespace pregate
