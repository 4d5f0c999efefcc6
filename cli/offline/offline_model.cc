#include "cli/offline/offline_model.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/status.h"
#include "expert_service/engine/slot_choice.h"

namespace pregate {
namespace {

int32_t BlocksFor(int32_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// Lists run first come, first served, so at most one is carried over from the step before: it may
// fill the context, the others fit the step's tokens, each with a block that is not full.
int32_t BlocksNeeded(const OfflineOptions& options, int32_t context_tokens) {
  return BlocksFor(context_tokens) + BlocksFor(options.step_tokens) + options.seq_slots;
}

ExecutorOptions ExecutorOptionsFor(const ModelSpec& spec, const OfflineOptions& options) {
  const int32_t context = options.context_tokens > 0 ? options.context_tokens : spec.max_position;
  ExecutorOptions executor;
  executor.types = options.types;
  executor.step_tokens = options.step_tokens;
  executor.seq_slots = options.seq_slots;
  executor.context_tokens = context;
  executor.kv_blocks = BlocksNeeded(options, context);
  executor.with_replica = false;
  executor.expert_slots = options.expert_slots.value_or(0);
  return executor;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OfflineModel>> OfflineModel::Load(const Checkpoint& checkpoint,
                                                                 Device* device, Clock* clock,
                                                                 const OfflineOptions& options,
                                                                 const LoadProgress& progress) {
  const ModelSpec& spec = checkpoint.spec();
  if (options.expert && (*options.expert < 0 || *options.expert >= spec.num_experts)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert is ", *options.expert, ", the model has ", spec.num_experts));
  }
  ExecutorOptions executor_options = ExecutorOptionsFor(spec, options);
  if (!options.expert_slots) {
    ASSIGN_OR_RETURN(const SlotChoice choice,
                     ChooseExpertSlots(spec, *device, executor_options, /*given_bytes=*/0,
                                       /*sharers=*/1));
    executor_options.expert_slots = choice.expert_slots;
  }
  ASSIGN_OR_RETURN(auto executor,
                   StepExecutor::Create(checkpoint, device, clock, executor_options, progress));
  std::unique_ptr<OfflineRouter> router;
  if (spec.is_moe() && !options.expert) {
    ASSIGN_OR_RETURN(router,
                     OfflineRouter::Create(checkpoint, *device, executor->limits().context_tokens));
  }
  return std::unique_ptr<OfflineModel>(
      new OfflineModel(std::move(executor), std::move(router), options));
}

OfflineModel::OfflineModel(std::unique_ptr<StepExecutor> executor,
                           std::unique_ptr<OfflineRouter> router, const OfflineOptions& options)
    : executor_(std::move(executor)), router_(std::move(router)), options_(options) {}

// Every call begins with nothing open, also after one that failed half-way.
void OfflineModel::Reset() {
  executor_->Reset();
  free_slots_.resize(executor_->limits().seq_slots);
  free_blocks_.resize(executor_->limits().kv_blocks);
  std::iota(free_slots_.begin(), free_slots_.end(), 0);
  std::iota(free_blocks_.begin(), free_blocks_.end(), 0);
  open_.clear();
}

absl::Status OfflineModel::CheckTokens(absl::Span<const TokenId> tokens) const {
  const StepLimits& limits = executor_->limits();
  if (tokens.size() > static_cast<size_t>(limits.context_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokens.size(), " tokens, the context has ", limits.context_tokens));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= limits.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", tokens[i],
                                                     ", the vocabulary has ", limits.vocab_size));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RoutedTokens> OfflineModel::Route(absl::Span<const TokenId> tokens) {
  if (router_ != nullptr) return router_->RouteAll(tokens);
  if (options_.expert)
    return RoutedTokens{std::vector<ExpertId>(tokens.size(), *options_.expert), {}};
  return RoutedTokens{};
}

bool OfflineModel::Open(Work& work, StepPlan& plan) {
  const size_t blocks = BlocksFor(work.end);
  if (free_slots_.empty() || free_blocks_.size() < blocks) return false;
  work.slot = free_slots_.back();
  free_slots_.pop_back();
  work.blocks.assign(free_blocks_.end() - blocks, free_blocks_.end());
  free_blocks_.resize(free_blocks_.size() - blocks);

  SequenceAdd add;
  add.seq_slot = work.slot;
  add.seq_id = work.request;
  plan.add.push_back(std::move(add));
  plan.blocks.push_back({work.slot, 0, work.blocks});
  return true;
}

void OfflineModel::Close(const Work& work, StepPlan& plan) {
  plan.drop.push_back(work.slot);
  free_slots_.push_back(work.slot);
  free_blocks_.insert(free_blocks_.end(), work.blocks.begin(), work.blocks.end());
}

// At most two rows: what emits nothing, then what emits.
void OfflineModel::PlanRows(Work& work, int32_t& budget, StepPlan& plan) const {
  while (budget > 0 && work.next < work.end) {
    const bool emits = work.next >= work.emit_from;
    Row& row = plan.rows.emplace_back();
    row.seq_slot = work.slot;
    row.position = work.next;
    row.count = std::min(budget, (emits ? work.end : work.emit_from) - work.next);
    row.emit = emits ? work.emit : Emit::kNone;
    const auto first = work.tokens.begin() + work.next;
    row.tokens.assign(first, first + row.count);
    if (row.emit == Emit::kScore) row.targets.assign(first + 1, first + 1 + row.count);
    if (!work.routes.empty()) {
      const auto route = work.routes.begin() + work.next;
      row.routes.assign(route, route + row.count);
    }
    work.next += row.count;
    budget -= row.count;
  }
}

absl::StatusOr<StepResult> OfflineModel::Run(StepPlan& plan) {
  plan.step_id = ++last_step_;
  StepResult result = executor_->Run(plan, nullptr);
  RETURN_IF_ERROR(result.status);
  if (!result.row_errors.empty()) return absl::InternalError(result.row_errors[0].message);
  plan = StepPlan();
  return result;
}

absl::StatusOr<TokenLogits> OfflineModel::Logits(absl::Span<const TokenId> tokens) {
  RETURN_IF_ERROR(CheckTokens(tokens));
  ASSIGN_OR_RETURN(RoutedTokens routed, Route(tokens));
  TokenLogits out{{}, routed.routes, std::move(routed.logits)};
  out.logits.reserve(tokens.size() * executor_->limits().vocab_size);

  Reset();
  Work work;
  work.tokens = tokens;
  work.routes = std::move(routed.routes);
  work.end = static_cast<int32_t>(tokens.size());
  work.emit = Emit::kLogits;
  StepPlan plan;
  PREGATE_CHECK(Open(work, plan), "all slots and blocks are free");
  while (work.next < work.end) {
    int32_t budget = options_.step_tokens;
    PlanRows(work, budget, plan);
    ASSIGN_OR_RETURN(const StepResult result, Run(plan));
    for (const RowLogits& row : result.logits) {
      out.logits.insert(out.logits.end(), row.logits.begin(), row.logits.end());
    }
  }
  return out;
}

absl::Status OfflineModel::CheckRequest(const ScoreRequest& request) const {
  RETURN_IF_ERROR(CheckTokens(request.tokens));
  if (request.first_target >= 1 &&
      request.first_target < static_cast<int64_t>(request.tokens.size())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("first_target is ", request.first_target, " of ",
                                                 request.tokens.size(), " tokens"));
}

absl::StatusOr<std::vector<TokenScores>> OfflineModel::Score(
    absl::Span<const ScoreRequest> requests, const std::function<void(int done)>& on_scored) {
  for (const ScoreRequest& request : requests) RETURN_IF_ERROR(CheckRequest(request));
  Reset();
  std::vector<TokenScores> scores(requests.size());
  size_t started = 0;
  StepPlan plan;
  while (started < requests.size() || !open_.empty()) {
    ASSIGN_OR_RETURN(const int newly_started, PlanScoreStep(requests, started, plan));
    started += newly_started;
    ASSIGN_OR_RETURN(const StepResult result, Run(plan));
    for (const RowScores& row : result.scores) {
      TokenScores& to = scores[row.seq_id];
      to.logprobs.insert(to.logprobs.end(), row.logprobs.begin(), row.logprobs.end());
      to.greedy.insert(to.greedy.end(), row.greedy.begin(), row.greedy.end());
    }
    while (!open_.empty() && open_.front().next == open_.front().end) {
      scores[open_.front().request].routes = std::move(open_.front().routes);
      Close(open_.front(), plan);
      open_.pop_front();
    }
    if (on_scored) on_scored(static_cast<int>(started - open_.size()));
  }
  return scores;
}

absl::StatusOr<int> OfflineModel::PlanScoreStep(absl::Span<const ScoreRequest> requests,
                                                size_t started, StepPlan& plan) {
  int32_t budget = options_.step_tokens;
  for (Work& work : open_) PlanRows(work, budget, plan);
  int newly_started = 0;
  for (size_t r = started; r < requests.size() && budget > 0; ++r, ++newly_started) {
    Work work;
    work.tokens = requests[r].tokens;
    work.emit_from = requests[r].first_target - 1;
    work.end = static_cast<int32_t>(work.tokens.size()) - 1;
    work.emit = Emit::kScore;
    work.request = r;
    if (!Open(work, plan)) break;
    ASSIGN_OR_RETURN(RoutedTokens routed, Route(work.tokens));
    work.routes = std::move(routed.routes);
    PlanRows(work, budget, plan);
    open_.push_back(std::move(work));
  }
  return newly_started;
}

}  // namespace pregate
