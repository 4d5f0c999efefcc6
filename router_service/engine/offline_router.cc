#include "router_service/engine/offline_router.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int kStepTokens = 256;

}  // namespace

OfflineRouter::OfflineRouter(std::unique_ptr<RouterExecutor> executor, int context_tokens_max)
    : executor_(std::move(executor)),
      context_tokens_max_(context_tokens_max),
      blocks_((context_tokens_max + kKvBlockTokens - 1) / kKvBlockTokens) {
  std::iota(blocks_.begin(), blocks_.end(), 0);
}

absl::StatusOr<std::unique_ptr<OfflineRouter>> OfflineRouter::Create(const Checkpoint& checkpoint,
                                                                     Device& device,
                                                                     int context_tokens_max) {
  if (context_tokens_max < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("context_tokens_max: ", context_tokens_max, " is below 1"));
  }
  const int step_tokens_max = std::min(kStepTokens, context_tokens_max);
  ASSIGN_OR_RETURN(std::unique_ptr<RouterNet> net,
                   RouterNet::Load(checkpoint, device, step_tokens_max));
  const RouterExecutorOptions options{
      .context_tokens_max = context_tokens_max,
      .kv_blocks = (context_tokens_max + kKvBlockTokens - 1) / kKvBlockTokens};
  ASSIGN_OR_RETURN(std::unique_ptr<RouterExecutor> executor,
                   RouterExecutor::Create(std::move(net), device, options));
  return std::unique_ptr<OfflineRouter>(new OfflineRouter(std::move(executor), context_tokens_max));
}

absl::StatusOr<RoutedTokens> OfflineRouter::RouteAll(absl::Span<const TokenId> tokens) {
  if (static_cast<int64_t>(tokens.size()) > context_tokens_max_) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens: has ", tokens.size(), ", the context holds ", context_tokens_max_));
  }
  RETURN_IF_ERROR(ValidateTokenIds(tokens, executor_->net().vocab_size()));
  RoutedTokens out;
  std::vector<ExpertId> routes;
  std::vector<float> logits;
  for (size_t at = 0; at < tokens.size();) {
    RouteStep step;
    step.num_tokens = std::min<int>(executor_->net().tokens_max(), tokens.size() - at);
    step.rows.push_back({.position = static_cast<int>(at),
                         .tokens = tokens.subspan(at, step.num_tokens),
                         .blocks = blocks_});
    RETURN_IF_ERROR(executor_->Run(step, &routes, &logits));
    out.routes.insert(out.routes.end(), routes.begin(), routes.end());
    out.logits.insert(out.logits.end(), logits.begin(), logits.end());
    at += step.num_tokens;
  }
  return out;
}

}  // namespace pregate
