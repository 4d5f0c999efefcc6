// Routes whole token lists on the caller's thread: `pregate logits` and `pregate eval`, and tests'
// oracle.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "router_service/engine/router_executor.h"

namespace pregate {

struct RoutedTokens {
  std::vector<ExpertId> routes;  // [tokens]
  std::vector<float> logits;     // [tokens, experts]
};

// Not thread-safe. Borrows the device.
class OfflineRouter {
 public:
  // `context_tokens_max` bounds one list. Allocates the keys and values of one.
  static absl::StatusOr<std::unique_ptr<OfflineRouter>> Create(const Checkpoint& checkpoint,
                                                               Device& device,
                                                               int context_tokens_max);

  // INVALID_ARGUMENT naming the token for an id beyond the vocabulary or a list beyond the context.
  absl::StatusOr<RoutedTokens> RouteAll(absl::Span<const TokenId> tokens);

  int num_experts() const { return executor_->net().num_experts(); }

 private:
  OfflineRouter(std::unique_ptr<RouterExecutor> executor, int context_tokens_max);

  std::unique_ptr<RouterExecutor> executor_;
  const int context_tokens_max_;
  std::vector<BlockId> blocks_;  // all of them, in order
};

}  // namespace pregate
