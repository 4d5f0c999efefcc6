// The engine's options. Flags, their ranges and their defaults in files are the edge's; these
// defaults serve tests.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "scheduler_service/core/policies.h"

namespace pregate {

// Who routes just-sampled tokens: the worker's replica, or the router service (then plans are in
// lockstep).
enum class DecodeRouting { kReplica, kService };
// Where draft tokens come from: the text itself, or nowhere.
enum class Drafts { kOff, kNgram };

struct EngineOptions {
  std::string scheduler_id;
  // What a worker's Hello must say; empty: what the first worker says stands.
  std::string model_digest;

  bool run_ahead = true;  // at most one plan before the result of the one before it
  DecodeRouting decode_routing = DecodeRouting::kReplica;
  Drafts drafts = Drafts::kNgram;
  // What was computed of a prompt or a text is found by the next that begins so.
  bool prefix_cache = true;
  int32_t step_tokens = 512;         // token budget of a step; a worker's own limit may be lower
  int32_t running_max = 1 << 16;     // sequences in the batch; a worker's slots may be fewer
  int32_t queue_max = 256;           // admitted requests that do not run
  int32_t preemptions_max = 4;       // of one sequence by KV exhaustion
  std::string batching = "horizon";  // of PlannerNames
  scheduler::PlannerOptions planner;
  std::string eviction = "plan";  // of EvictionNames
  // In a row that one sequence may be part of without a new token, before it fails.
  int32_t recoveries_max = 16;

  absl::Duration heartbeat = absl::Milliseconds(100);  // longest wait of the loop
  // A worker's process has given no sign of life while others have: it is left out.
  absl::Duration worker_silence_timeout = absl::Milliseconds(700);
  // The loop of a worker that owes an answer has not advanced, though its process lives.
  absl::Duration worker_stall_timeout = absl::Seconds(15);
  // Workers that are up wait so long for those that are not, before they form a cell;
  absl::Duration form_wait = absl::Seconds(1);
  // and beside a cell that serves, before they are taken into it.
  absl::Duration grow_wait = absl::Seconds(10);
  // Between formations that led to no step.
  absl::Duration form_backoff_min = absl::Milliseconds(50);
  absl::Duration form_backoff_max = absl::Seconds(1);
  // A member that is lost so often within the window (and each that refuses a Form) waits before it
  // is taken in again beside others, twice as long after each further loss.
  int losses_damped = 3;
  absl::Duration loss_window = absl::Minutes(1);  // between one loss and the next
  absl::Duration readmit_wait_min = absl::Seconds(1);
  absl::Duration readmit_wait_max = absl::Seconds(30);
  // A route request without an answer is sent again.
  absl::Duration route_resend = absl::Seconds(5);
  // What is still unfinished then fails with UNAVAILABLE.
  absl::Duration drain_timeout = absl::Seconds(30);
};

}  // namespace pregate
