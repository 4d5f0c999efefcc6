// A model without services: logits and scores of whole token lists, on the caller's thread. It
// drives StepExecutor with plans of its own, so `pregate logits` and `pregate eval` exercise the
// contract that serving runs on.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/step_executor.h"
#include "router_service/engine/offline_router.h"

namespace pregate {

struct OfflineOptions {
  StepTypes types = kF32Types;
  int32_t step_tokens = 256;
  int32_t seq_slots = 64;                   // token lists in one step
  int32_t context_tokens = 0;               // longest list; 0: the model's max_position
  std::optional<int32_t> expert_slots = 0;  // as ExecutorOptions'; missing: what fits
  std::optional<ExpertId> expert;           // takes the place of the router for every token
};

struct TokenLogits {
  std::vector<float> logits;     // [tokens, vocab]
  std::vector<ExpertId> routes;  // [tokens]; empty for a dense model
  std::vector<float>
      router_logits;  // [tokens, experts]; empty without a router or with a fixed expert
};

// tokens[first_target..] are scored, each given all tokens before it.
struct ScoreRequest {
  std::vector<TokenId> tokens;
  int32_t first_target = 1;  // at least 1
};
struct TokenScores {
  std::vector<float> logprobs;   // [tokens - first_target], natural logarithm
  std::vector<uint8_t> greedy;   // [tokens - first_target] 1 where the token is the argmax
  std::vector<ExpertId> routes;  // [tokens]; empty for a dense model
};

// Not thread-safe. The checkpoint, the device and the clock outlive it.
class OfflineModel {
 public:
  // FAILED_PRECONDITION for an MoE that has no router when no expert is fixed.
  static absl::StatusOr<std::unique_ptr<OfflineModel>> Load(const Checkpoint& checkpoint,
                                                            Device* device, Clock* clock,
                                                            const OfflineOptions& options,
                                                            const LoadProgress& progress);

  // INVALID_ARGUMENT names the token for an id out of range or a list beyond the context.
  absl::StatusOr<TokenLogits> Logits(absl::Span<const TokenId> tokens);

  // Many lists share each step; answers are in the order of the requests. `on_scored` (may be null)
  // is called with the number of lists done.
  absl::StatusOr<std::vector<TokenScores>> Score(absl::Span<const ScoreRequest> requests,
                                                 const std::function<void(int done)>& on_scored);

 private:
  // One list on its way through the steps.
  struct Work {
    absl::Span<const TokenId> tokens;
    std::vector<ExpertId> routes;
    int32_t emit_from = 0;  // first position that emits
    int32_t end = 0;        // positions that run
    Emit emit = Emit::kNone;
    size_t request = 0;  // index of the request
    int32_t slot = -1;
    int32_t next = 0;  // first position not yet planned
    std::vector<BlockId> blocks;
  };

  OfflineModel(std::unique_ptr<StepExecutor> executor, std::unique_ptr<OfflineRouter> router,
               const OfflineOptions& options);
  void Reset();
  absl::Status CheckTokens(absl::Span<const TokenId> tokens) const;
  absl::Status CheckRequest(const ScoreRequest& request) const;
  absl::StatusOr<RoutedTokens> Route(absl::Span<const TokenId> tokens);
  bool Open(Work& work, StepPlan& plan);  // false: no slot or no blocks are free
  void Close(const Work& work, StepPlan& plan);
  void PlanRows(Work& work, int32_t& budget, StepPlan& plan) const;
  // Returns how many requests it started, from requests[started] on.
  absl::StatusOr<int> PlanScoreStep(absl::Span<const ScoreRequest> requests, size_t started,
                                    StepPlan& plan);
  absl::StatusOr<StepResult> Run(StepPlan& plan);  // and clears the plan

  const std::unique_ptr<StepExecutor> executor_;
  const std::unique_ptr<OfflineRouter> router_;  // null: dense, or a fixed expert
  const OfflineOptions options_;
  StepId last_step_ = 0;
  std::vector<int32_t> free_slots_;
  std::vector<BlockId> free_blocks_;
  std::deque<Work> open_;  // first come, first served
};

}  // namespace pregate
