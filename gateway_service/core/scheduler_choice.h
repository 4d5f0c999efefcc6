// Which of several schedulers gets a request.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate::gateway {

struct SchedulerLoad {
  bool ready = false;
  bool tried = false;       // for this request, which it refused
  absl::string_view model;  // that it serves; empty: not known yet
  int64_t outstanding = 0;  // requests of ours that it has
};

// The ready one with the fewest outstanding requests that serves `model` ("": any), and of equals the
// first from `turn` on, so that they take turns; -1: none. Where none is known to serve the model, any
// ready one, which then says so in its own words.
int ChooseScheduler(absl::Span<const SchedulerLoad> schedulers, absl::string_view model,
                    uint64_t turn);

}  // namespace pregate::gateway
