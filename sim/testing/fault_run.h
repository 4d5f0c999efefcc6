// One seed of the fault simulation: the production engine in virtual time among random workers,
// clients and faults that the seed chooses, and what was wrong. The same seed gives the same run.
//
//   every request    one start, one end, nothing after it; tokens contiguous; a finished one's tokens,
//                    routes and text are those of the model without a scheduler, of any other a prefix;
//                    a cancel and a deadline end it at once
//   every plan       one that the worker's own checks take; of a prefix that is said to be there the KV
//                    is there, and nobody writes to a block that several use
//   budgets          tokens of a step, running and waiting requests, KV blocks, preemptions, plans
//   at the end       no sequence, block, slot or stream is left over
//   nobody starves   kServedMax after the faults
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace pregate::scheduler {

// Who has not ended by himself is served within so much of his arrival, or of the last fault's end. The
// longest parts: a lost plan shows after worker_stall_timeout, 15 s; a lost answer of the router after
// route_resend, 5 s; a worker that was lost often waits for up to readmit_wait_max, 30 s.
inline constexpr absl::Duration kServedMax = absl::Seconds(45);

struct FaultRun {
  std::vector<std::string> problems;
  std::string scenario;  // in words
  std::string trace;     // one line an event, if wanted
  int faults = 0;
  int recoveries = 0;
  int preemptions = 0;
  int refusals = 0;
  int resumes = 0;
  int cancelled = 0;  // by the client or its deadline
  int failed = 0;     // by a row error
  int64_t plans = 0;
  int64_t tokens = 0;
  int64_t right_drafts = 0;
  int64_t found_tokens = 0;  // that the prefix cache had
  int64_t unit_loads = 0;
  absl::Duration served_last;  // as in kServedMax

  void Add(const FaultRun& other);  // counts
};

struct FaultRunOptions {
  bool trace = false;
  // The workers have other weights than the reference, which nothing in the scheduler can see.
  bool wrong_tokens = false;
};

FaultRun RunFaults(uint64_t seed, const FaultRunOptions& options = {});

}  // namespace pregate::scheduler
