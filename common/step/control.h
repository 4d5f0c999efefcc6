// The worker stream's messages beside Plan and Result (docs/CONTRACTS.md, "Links"). What belongs to
// an epoch carries its number (0 before the first formation); a receiver drops stale ones.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "common/step/plan.h"
#include "common/step/result.h"

namespace pregate {

inline constexpr int kWorkerProtocol = 4;

// Expert e lives on the ranks placement.ranks[e] (indexes into the members).
struct Placement {
  std::vector<std::vector<int32_t>> ranks;  // [num_experts]
};

// --- scheduler to worker ---

// Starts a new epoch: ends the one before it, whatever that is doing (a step, joining, reading
// experts), and empties every slot and block table.
struct Form {
  Epoch epoch = 0;
  std::string scheduler_id;
  std::vector<int32_t> members;  // ranks of --workers, ascending
  Placement placement;
  std::string rendezvous;  // opaque; empty with one member
};
// The scheduler's loop turns, so it goes on holding the worker (Hello.lease_ms). Epochs up to
// `void_through` are over: what runs for them ends. The answer is Alive, again and again.
struct Renew {
  Epoch void_through = 0;
};
using ToWorker = std::variant<Form, std::shared_ptr<const StepPlan>, Renew>;

// --- worker to scheduler ---

// What a worker is, and can do.
struct WorkerFacts {
  // Equal in a cell.
  std::string model_digest;
  std::string router_digest;  // of the replica; empty without one
  std::string numerics_id;    // instruction set path, kernel set, dtype
  int32_t vocab_size = 0;
  int32_t num_experts = 0;
  // A cell works with the least of its members'.
  int32_t kv_blocks = 0;
  int32_t seq_slots = 0;       // sequences that may be open at once
  int32_t step_tokens = 0;     // most tokens in one step
  int32_t context_tokens = 0;  // longest sequence
  // Its own.
  std::string device;
  int32_t num_layers = 0;  // with experts; 0: its units are not for the scheduler to name
  int32_t unit_slots = 0;  // units that fit on the device at once; 0: all
};

struct Hello {
  uint64_t incarnation = 0;  // random per process
  int32_t protocol = kWorkerProtocol;
  int32_t rank = 0;  // as the worker was started; must be its entry in --workers
  WorkerFacts facts;
  std::vector<UnitId> resident_units;
  Epoch highest_epoch = 0;  // the last that was accepted
  std::string rendezvous;
  int32_t lease_ms = 0;  // how long a silent scheduler holds the worker; 0: takes no Renew
};
// How a Form has ended; every Form is answered. PERMISSION_DENIED: another scheduler holds the
// worker. Later the same for an epoch that had formed: another has taken it.
struct Formed {
  Epoch epoch = 0;
  absl::Status status;
  std::string rendezvous;
  // The first of the epochs, without another scheduler's between them, whose plans alone have written
  // the worker's KV; 0: it does not say.
  Epoch kv_since = 0;
};
struct Progress {  // the loop turns: a step was begun or goes on; step 0: the epoch is being formed
  Epoch epoch = 0;
  StepId step_id = 0;
};
// The process lives, whatever its loop is busy with: every kWorkerAliveMs, to links that renew.
struct Alive {
  bool waits_for_peers = false;  // the loop stands in a collective operation
};
struct UnitEvents {  // outside of a result
  Epoch epoch = 0;
  std::vector<UnitEvent> events;
};
using FromWorker = std::variant<Hello, Formed, Progress, StepResult, UnitEvents, Alive>;

}  // namespace pregate
