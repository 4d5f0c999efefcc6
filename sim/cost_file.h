// What things cost on a named machine: measured by bench/step_cost.cc, or derived by a formula that
// the file states.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate::sim {

struct Costs {
  std::string machine;
  std::string source;  // "measured" or "derived"
  int32_t layers = 0;
  int32_t experts = 0;

  // A step: base + token * tokens + expert_read * experts + key * keys (each row reads its own) +
  // pair * (token, key) pairs + sample * rows that emit.
  double base_s = 0, token_s = 0, expert_read_s = 0, key_s = 0, pair_s = 0, sample_s = 0;
  double unit_load_s = 0;                         // one unit over the link, alone on it
  double route_request_s = 0, route_token_s = 0;  // of the router service
  double link_s = 0;                              // one way between scheduler and another service
};

// INVALID_ARGUMENT names the field: missing, no number, negative, more than an hour, or a model
// without layers or experts.
absl::StatusOr<Costs> ParseCosts(absl::string_view json);

}  // namespace pregate::sim
