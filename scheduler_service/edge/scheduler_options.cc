#include "scheduler_service/edge/scheduler_options.h"

#include <utility>

#include "common/base/limits.h"

namespace pregate {
namespace {

constexpr int kQueueMax = 1 << 16;
constexpr int kPreemptionsMax = 1000;
constexpr int kAgeStepsMax = 10000;

}  // namespace

void DeclareSchedulerServerOptions(OptionSet& set, SchedulerServerOptions* options) {
  DeclarePortOptions(set, "Inference", &options->ports);
  DeclareOtlpOptions(set, &options->otlp);
  EngineOptions& engine = options->engine;
  set.Group("Scheduling");
  set.Int("queue-max", &engine.queue_max, 1, kQueueMax, "requests",
          "Admitted requests that may wait; further ones are refused");
  set.Int("step-tokens", &engine.step_tokens, 1, kStepTokensMax, "tokens",
          "Token budget of a step; the workers' own may be lower");
  set.Int("running-max", &engine.running_max, 1, kSeqSlotsMax, "sequences",
          "Sequences in the batch; the workers' slots may be fewer");
  set.Choice("run-ahead", &options->run_ahead, {"on", "off"},
             "Send a plan before the result of the one before it");
  set.Choice("decode-routing", &options->decode_routing, {"replica", "service"},
             "Who routes just-sampled tokens: the worker's replica or the router service");
  set.Choice("drafts", &options->drafts, {"ngram", "off"},
             "Guess tokens from what the text repeats and check several in one step, as far as it "
             "pays; the text does not depend on it");
  set.Choice(
      "prefix-cache", &options->prefix_cache, {"on", "off"},
      "Keep what was computed of prompts and texts until its KV blocks are needed, for the next "
      "prompt of the same tenant that begins so; the text does not depend on it");
  set.Choice(
      "batching", &engine.batching, scheduler::PlannerNames(),
      "Who shares a step where not all experts fit; where all fit, horizon and by_expert are "
      "fcfs");
  set.Int("batch-age-steps", &engine.planner.age_steps, -1, kAgeStepsMax, "steps",
          "How often a sequence that could run may be passed over in a row; -1: 8 with by_expert, "
          "else 64");
  set.Int("batch-experts-max", &engine.planner.experts_max, 0, kExpertsMax, "experts",
          "by_expert: experts that a step takes by choice; 0: as many as fit at once");
  set.Choice("eviction", &engine.eviction, scheduler::EvictionNames(),
             "Which experts leave where not all fit: least recently used, next used last, or those "
             "that the policy plans without (where it plans none: next used last)");
  set.Int("preemptions-max", &engine.preemptions_max, 0, kPreemptionsMax, "times",
          "How often one sequence may lose its KV to others");
  set.Duration("worker-silence-timeout-s", &engine.worker_silence_timeout,
               absl::Milliseconds(2 * kWorkerAliveMs), absl::Hours(1),
               "How long the process of a worker that owes an answer may give no sign of life, "
               "before the others go on without it");
  set.Duration("worker-stall-timeout-s", &engine.worker_stall_timeout, absl::Milliseconds(500),
               absl::Hours(1),
               "How long the loop of a living worker may stand in one layer, or in reading one "
               "expert, before the others go on without it");
  set.Duration("form-wait-s", &engine.form_wait, absl::ZeroDuration(), absl::Minutes(10),
               "How long the first workers that are up wait for the rest before they serve");
  set.Duration("grow-wait-s", &engine.grow_wait, absl::ZeroDuration(), absl::Hours(1),
               "How long a worker that comes to others that serve waits to be added while more "
               "are missing; it is added at once when none is");
  set.Duration("drain-timeout-s", &engine.drain_timeout, absl::ZeroDuration(), absl::Hours(1),
               "How long SIGTERM waits for open streams");
  set.Group();
}

void DeclareSchedulerLinkOptions(OptionSet& set, SchedulerLinkOptions* options) {
  set.Group("Addresses");
  set.Strings("workers", &options->workers, "Addresses of the workers; rank r is entry r");
  set.String("router", &options->router, "Address of the router; not used for a dense model");
  set.Group();
}

EngineOptions FinishEngineOptions(const SchedulerServerOptions& options, std::string scheduler_id,
                                  std::string model_digest) {
  EngineOptions engine = options.engine;
  engine.scheduler_id = std::move(scheduler_id);
  engine.model_digest = std::move(model_digest);
  engine.run_ahead = options.run_ahead == "on";
  engine.decode_routing =
      options.decode_routing == "service" ? DecodeRouting::kService : DecodeRouting::kReplica;
  engine.prefix_cache = options.prefix_cache == "on";
  engine.drafts = options.drafts == "ngram" ? Drafts::kNgram : Drafts::kOff;
  return engine;
}

}  // namespace pregate
