// What one worker can take in a step: fixed at start, told to the scheduler in Hello, checked on
// every plan.
#pragma once

#include <cstdint>
#include <vector>

namespace pregate {

struct StepLimits {
  int32_t rank = 0;
  std::vector<int32_t> members = {0};  // ranks of the epoch, this one among them
  int32_t seq_slots = 0;               // sequences open at once
  int32_t step_tokens = 0;             // tokens in one step
  int32_t context_tokens = 0;          // tokens of one sequence, the one to be sampled included
  int32_t kv_blocks = 0;
  int32_t vocab_size = 0;
  int32_t num_experts = 0;  // 0: dense, plans carry no routes
  int32_t num_layers = 0;
  int32_t logprobs_max = 0;  // most alternatives beside one sampled token
  bool has_replica =
      false;  // false: an MoE whose sampled tokens get no route, so late rows are refused
};

}  // namespace pregate
