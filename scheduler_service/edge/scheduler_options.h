// The options of the scheduler as a service.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/option_set.h"
#include "common/rpc/otlp_exporter.h"
#include "common/rpc/service.h"
#include "scheduler_service/engine/options.h"

namespace pregate {

struct SchedulerServerOptions {
  PortOptions ports{.listen = "127.0.0.1:7600", .metrics_listen = "127.0.0.1:7601"};

  EngineOptions engine{.step_tokens = 256, .running_max = 1024};
  // What flags say of four fields of `engine`; FinishEngineOptions carries them over.
  std::string run_ahead = "on";
  std::string decode_routing = "replica";
  std::string drafts = "ngram";
  std::string prefix_cache = "on";
  OtlpOptions otlp;
};
void DeclareSchedulerServerOptions(OptionSet& set, SchedulerServerOptions* options);

// Whom the scheduler dials.
struct SchedulerLinkOptions {
  std::vector<std::string> workers = {"127.0.0.1:7620"};
  std::string router = "127.0.0.1:7610";
};
void DeclareSchedulerLinkOptions(OptionSet& set, SchedulerLinkOptions* options);

// `scheduler_id`: random per process. `model_digest`: what workers must say.
EngineOptions FinishEngineOptions(const SchedulerServerOptions& options, std::string scheduler_id,
                                  std::string model_digest);

}  // namespace pregate
