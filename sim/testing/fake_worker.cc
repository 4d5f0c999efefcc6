#include "sim/testing/fake_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "expert_service/core/draft_cut.h"
#include "expert_service/core/exchange_plan.h"
#include "expert_service/core/plan_check.h"
#include "sim/testing/fake_router.h"

namespace pregate::scheduler {
namespace {

constexpr absl::Duration kLease = absl::Seconds(5);
const FakeModel::State kEmptyPrefix;

StepLimits LimitsOf(const FakeWorkerConfig& config) {
  StepLimits limits;
  limits.rank = config.rank;
  limits.members = {config.rank};
  limits.seq_slots = config.seq_slots;
  limits.step_tokens = config.step_tokens;
  limits.context_tokens = config.context_tokens;
  limits.kv_blocks = config.kv_blocks;
  limits.vocab_size = config.model.vocab_size;
  limits.num_experts = config.model.num_experts;
  limits.num_layers = config.num_layers;
  limits.logprobs_max = kLogprobsMax;
  limits.has_replica = config.routes_samples && config.model.num_experts > 0;
  return limits;
}

sim::CacheShape ShapeOf(const FakeWorkerConfig& config) {
  const int32_t num_units = config.num_layers * config.model.num_experts;
  return {config.num_layers, config.model.num_experts,
          config.unit_slots == 0 ? num_units : config.unit_slots, config.unit_load};
}

}  // namespace

FakeWorker::FakeWorker(const FakeWorkerConfig& config, uint64_t incarnation)
    : config_(config),
      incarnation_(incarnation),
      limits_(LimitsOf(config)),
      lease_(kLease, kEpochAheadMax),
      table_(config.seq_slots),
      adds_(config.seq_slots),
      sampled_in_(config.seq_slots),
      cells_(static_cast<size_t>(config.kv_blocks) * kKvBlockTokens),
      replica_cells_(cells_.size()),
      users_(config.kv_blocks),
      cache_(ShapeOf(config)) {}

Hello FakeWorker::MakeHello() const {
  Hello hello;
  hello.incarnation = incarnation_;
  hello.rank = config_.rank;
  hello.facts.model_digest = "fake";
  hello.facts.router_digest = FakeRouter::kDigest;
  hello.facts.numerics_id = "hash";
  hello.facts.device = "none";
  hello.facts.kv_blocks = config_.kv_blocks;
  hello.facts.seq_slots = config_.seq_slots;
  hello.facts.step_tokens = config_.step_tokens;
  hello.facts.context_tokens = config_.context_tokens;
  hello.facts.vocab_size = config_.model.vocab_size;
  hello.facts.num_experts = config_.model.num_experts;
  hello.facts.num_layers = config_.num_layers;
  hello.facts.unit_slots = config_.unit_slots;
  hello.resident_units = cache_.Resident();
  hello.highest_epoch = lease_.held().epoch;
  hello.lease_ms = static_cast<int32_t>(absl::ToInt64Milliseconds(kLease));
  return hello;
}

absl::Status FakeWorker::Admit(LinkId link, const Form& form, absl::Time now) {
  RETURN_IF_ERROR(lease_.Take({link, form.scheduler_id, form.epoch}, now));
  epoch_ = form.epoch;
  last_step_ = 0;
  void_ = true;
  runs_ = false;
  queue_.clear();
  return absl::OkStatus();
}

Formed FakeWorker::OnForm(const Form& form) {
  void_ = false;
  limits_.members = form.members;
  placement_ = form.placement;
  table_.Clear();
  std::fill(users_.begin(), users_.end(), 0);
  histories_.clear();
  if (kv_since_ == 0 || kv_owner_ != form.scheduler_id) {
    kv_owner_ = form.scheduler_id;
    kv_since_ = form.epoch;
  }
  Formed formed;
  formed.epoch = form.epoch;
  formed.kv_since = kv_since_;
  return formed;
}

bool FakeWorker::OnPlan(StepPlan plan) {
  if (plan.epoch != epoch_) return false;
  queue_.push_back(std::move(plan));
  const size_t unanswered = queue_.size() + (runs_ ? 1 : 0);
  Expect(unanswered <= (config_.late_rows ? 2u : 1u),
         absl::StrCat(unanswered, " plans are unanswered"));
  return true;
}

FakeWorker::Step FakeWorker::BeginStep(absl::Time now) {
  const StepPlan plan = std::move(queue_.front());
  queue_.pop_front();
  runs_ = true;
  Step step;
  step.loaded = now;
  step.result.epoch = epoch_;
  step.result.rank = config_.rank;
  step.result.incarnation = incarnation_;
  step.result.step_id = plan.step_id;
  step.result.status =
      void_ ? absl::FailedPreconditionError("the epoch is void") : Run(plan, now, &step);
  void_ |= !step.result.status.ok();
  return step;
}

void FakeWorker::EndStep(absl::Time now, StepResult* result) {
  runs_ = false;
  result->unit_events = Tick(now);
}

std::vector<UnitEvent> FakeWorker::Tick(absl::Time now) {
  cache_.AdvanceTo(now);
  return cache_.TakeEvents();
}

// A plan out of order follows one that was lost; nothing else may be wrong with it.
absl::Status FakeWorker::Run(const StepPlan& plan, absl::Time now, Step* step) {
  RETURN_IF_ERROR(CheckStepOrder(plan, epoch_, last_step_));
  last_step_ = plan.step_id;
  if (!Expect(CheckPlan(plan, limits_, table_), "") || !Apply(plan, &step->result)) {
    return absl::InvalidArgumentError(violations_.back());
  }
  step->loaded = RunLayers(plan, now);
  return absl::OkStatus();
}

bool FakeWorker::Apply(const StepPlan& plan, StepResult* result) {
  const auto all = [](const auto& items, auto apply) {
    return std::all_of(items.begin(), items.end(), apply);
  };
  for (const int32_t slot : plan.drop) Drop(slot);
  return all(plan.wanted, [&](const Wanted& wanted) { return SetWanted(wanted); }) &&
         all(plan.add, [&](const SequenceAdd& add) { return Add(add); }) &&
         all(plan.blocks, [&](const BlockTableUpdate& update) { return SetBlocks(update); }) &&
         all(plan.rows, [&](const Row& row) { return RunRow(row, plan.step_id, result); });
}

void FakeWorker::Drop(int32_t slot) {
  for (const BlockId id : table_.at(slot).blocks) --users_[id];
  histories_.erase(table_.at(slot).seq_id);
  table_.Close(slot);
}

bool FakeWorker::Add(const SequenceAdd& add) {
  for (int32_t slot = 0; slot < table_.seq_slots(); ++slot) {
    const bool twice = table_.at(slot).open && table_.at(slot).seq_id == add.seq_id;
    if (!Expect(!twice, absl::StrCat("sequence ", add.seq_id, " twice"))) return false;
  }
  table_.Open(add);
  adds_[add.seq_slot] = add;
  sampled_in_[add.seq_slot] = 0;
  histories_[add.seq_id] = add.history;
  found_tokens_ += static_cast<int64_t>(add.history.size());
  return Expect(CheckAdd(add, limits_), "") &&
         Expect(add.history.size() % kKvBlockTokens == 0, "a history that ends within a block");
}

bool FakeWorker::SetBlocks(const BlockTableUpdate& update) {
  const pregate::Sequence& sequence = table_.at(update.seq_slot);
  if (!Home(sequence)) return true;
  const std::string where = absl::StrCat("blocks of slot ", update.seq_slot, ": ");
  const bool follows = update.first_index == static_cast<int32_t>(sequence.blocks.size());
  if (!Expect(CheckBlocks(update, limits_, sequence), where) ||
      !Expect(follows, absl::StrCat(where, "from ", update.first_index))) {
    return false;
  }
  const auto num_found =
      static_cast<int32_t>(histories_.at(sequence.seq_id).size()) / kKvBlockTokens;
  for (size_t i = 0; i < update.ids.size(); ++i) {
    const BlockId id = update.ids[i];
    const bool found = update.first_index + static_cast<int32_t>(i) < num_found;
    if (!Expect(found || users_[id] == 0, absl::StrCat(where, id, " is not free"))) return false;
    ++users_[id];
  }
  table_.SetBlocks(update);
  if (update.first_index > 0 || num_found == 0) return true;
  return Expect(HoldsHistory(sequence, cells_), where + "no KV of the history") &&
         Expect(!limits_.has_replica || HoldsHistory(sequence, replica_cells_),
                where + "no KV of the history at the replica");
}

// What its tokens, on the router's routes, would have left there.
bool FakeWorker::HoldsHistory(const pregate::Sequence& sequence,
                              const std::vector<Cell>& cells) const {
  FakeModel::State state;
  for (int32_t position = 0; position < sequence.length; ++position) {
    const TokenId token = histories_.at(sequence.seq_id)[position];
    state = config_.model.After(state, token, config_.model.RouteOf(state, token));
    if (position >= sequence.capacity_tokens()) return false;
    const Cell& cell = cells[CellIndex(sequence, position)];
    if (cell.position != position || !(cell.after == state)) return false;
  }
  return true;
}

bool FakeWorker::SetWanted(const Wanted& wanted) {
  if (wanted.rank != config_.rank) return true;
  if (!Expect(wanted.load_first <= config_.unit_slots,
              absl::StrCat("wanted: loads ", wanted.load_first))) {
    return false;
  }
  const int32_t self = IndexOf(config_.rank);
  for (const UnitId& unit : wanted.units) {
    const std::vector<int32_t>& ranks = placement_.ranks[unit.expert];
    const bool held = std::find(ranks.begin(), ranks.end(), self) != ranks.end();
    const bool once = std::count(wanted.units.begin(), wanted.units.end(), unit) == 1;
    if (!Expect(held && once, "wanted: a unit twice, or another rank's")) return false;
  }
  cache_.SetWanted(wanted.units, wanted.load_first);
  return true;
}

bool FakeWorker::CheckRowHere(const Row& row, StepId step_id) {
  const std::string where = absl::StrCat("row of slot ", row.seq_slot, " at ", row.position, ": ");
  const bool follows_sample = sampled_in_[row.seq_slot] + 1 == step_id;
  return Expect(CheckRow(row, limits_, table_.at(row.seq_slot)), where) &&
         Expect(row.drafts == 0 || IsWhole() || limits_.members.size() == 1,
                where + "drafts where several workers do not hold all of their experts") &&
         Expect(!row.late || config_.late_rows, where + "late rows are not allowed") &&
         Expect(!row.late || follows_sample, where + "not the sample of the step before");
}

// Follows the step executor (expert_service/engine/step_executor.h) position by position.
bool FakeWorker::RunRow(const Row& row, StepId step_id, StepResult* result) {
  pregate::Sequence& sequence = table_.at(row.seq_slot);
  if (!Home(sequence)) return true;
  if (!CheckRowHere(row, step_id) || !FillReplica(row, sequence)) return false;
  const std::string where = absl::StrCat("row of slot ", row.seq_slot, " at ", row.position, ": ");
  const FakeModel::State* before = Before(cells_, sequence, row.position);
  if (!Expect(before != nullptr, where + "KV is not its own")) return false;
  FakeModel::State state = *before;
  for (int32_t i = 0; i < row.committed(); ++i) {
    const TokenId token = row.late ? sequence.sampled_token : row.tokens[i];
    const ExpertId truth = config_.model.RouteOf(state, token);
    const ExpertId route = row.late || config_.model.num_experts == 0 ? truth : row.routes[i];
    if (!Expect(route == truth, where + "route is not the router's")) return false;
    state = config_.model.After(state, token, route);
    if (!Write(cells_, sequence, row.position + i, state)) return false;
    if (row.emit != Emit::kScore) continue;
    if (i == 0) result->scores.push_back({sequence.seq_id, row.position, {}, {}, {}});
    result->scores.back().top.push_back(Logprobs(state, row.targets[i], row.logprobs_k));
  }
  sequence.length = row.position + row.count;
  if (limits_.has_replica) sequence.replica_length = sequence.length;
  if (row.emit != Emit::kSample) return true;
  sampled_in_[row.seq_slot] = step_id;
  return DrawSamples(row, state, &sequence, result);
}

// The token's own, then those of the first ids.
std::vector<TokenLogprob> FakeWorker::Logprobs(const FakeModel::State& state, TokenId token,
                                               int32_t k) const {
  std::vector<TokenLogprob> logprobs;
  if (k > 0) logprobs.push_back({token, config_.model.LogprobOf(state, token)});
  for (TokenId id = 0; id < k; ++id) {
    logprobs.push_back({id, config_.model.LogprobOf(state, id)});
  }
  return logprobs;
}

bool FakeWorker::FillReplica(const Row& row, const pregate::Sequence& sequence) {
  if (!limits_.has_replica) return true;
  const int32_t end = row.position + row.count;
  for (int32_t position = ReplicaFillFrom(sequence, row); position < end; ++position) {
    if (!RunReplica(sequence, position, row.tokens[position - row.position])) return false;
  }
  return true;
}

// The token's route, from what the replica holds of the tokens before it.
std::optional<ExpertId> FakeWorker::RunReplica(const pregate::Sequence& sequence, int32_t position,
                                               TokenId token) {
  const FakeModel::State* before = Before(replica_cells_, sequence, position);
  if (!Expect(before != nullptr, absl::StrCat("sequence ", sequence.seq_id, " at ", position,
                                              ": the replica's KV is not its own"))) {
    return std::nullopt;
  }
  const ExpertId route = config_.model.RouteOf(*before, token);
  const FakeModel::State after = config_.model.After(*before, token, route);
  if (!Write(replica_cells_, sequence, position, after)) return std::nullopt;
  return route;
}

// Those at hand. The step executor looks at all rows together, which is a matter of speed alone.
int32_t FakeWorker::DraftsToRun(const Row& row, FakeModel::State state) const {
  if (IsWhole() || row.drafts == 0) return row.drafts;
  std::vector<ExpertId> routes;
  for (int32_t i = row.committed(); i < row.count; ++i) {
    routes.push_back(config_.model.RouteOf(state, row.tokens[i]));
    state = config_.model.After(state, row.tokens[i], routes.back());
  }
  std::vector<int32_t> units(config_.model.num_experts);
  for (const UnitId& unit : cache_.Resident()) ++units[unit.expert];
  ExpertsAtHand experts{.needed = std::vector<bool>(units.size()),
                        .resident = {},
                        .room = config_.unit_slots / config_.num_layers};
  for (const ExpertId route : row.routes) experts.needed[route] = true;
  for (const int32_t count : units) experts.resident.push_back(count == config_.num_layers);
  return DraftsAtHand({routes}, std::move(experts))[0];
}

bool FakeWorker::DrawSamples(const Row& row, FakeModel::State state, pregate::Sequence* sequence,
                             StepResult* result) {
  const int32_t end = row.committed() + DraftsToRun(row, state);
  for (int32_t i = row.committed();; ++i) {
    Sample sample;
    sample.seq_id = sequence->seq_id;
    sample.position = row.position + i;
    const SequenceAdd& add = adds_[row.seq_slot];
    // A made-up penalty: tokens depend on how many were generated.
    const uint64_t counted =
        add.sampling.counts_tokens() ? sample.position - add.generated_from : 0;
    sample.token = config_.model.SampleAt(
        state, sample.position, sequence->seed + counted,
        sample.position < add.banned_until ? add.banned : std::vector<TokenId>());
    sample.logprobs = Logprobs(state, sample.token, row.logprobs_k);
    if (limits_.has_replica) {
      const auto route = RunReplica(*sequence, sample.position, sample.token);
      if (!route) return false;
      sample.route = *route;
    }
    sequence->sampled_position = sequence->length = sample.position;
    sequence->sampled_token = sample.token;
    sequence->sampled_route = sample.route;
    if (limits_.has_replica) sequence->replica_length = sample.position + 1;
    result->samples.push_back(sample);
    if (i == end || row.tokens[i] != sample.token) return true;
    ++right_drafts_;
    state = config_.model.After(state, sample.token, sample.route);
    if (!Write(cells_, *sequence, sample.position, state)) return false;
  }
}

absl::Time FakeWorker::RunLayers(const StepPlan& plan, absl::Time now) {
  if (cache_.all_fit() || plan.rows.empty()) return now;
  cache_.BeginStep(ExpertSet(plan), now);
  absl::Time t = now;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) t = cache_.RunLayer(layer, t);
  cache_.EndStep(t);
  return t;
}

// Of this rank. Every route is known: where not all experts fit, no row is late, and drafts need none more.
std::vector<ExpertId> FakeWorker::ExpertSet(const StepPlan& plan) {
  std::vector<int32_t> homes;
  std::vector<ExpertId> routes;
  for (const Row& row : plan.rows) {
    homes.insert(homes.end(), row.routes.size(), IndexOf(table_.at(row.seq_slot).home_rank));
    routes.insert(routes.end(), row.routes.begin(), row.routes.end());
  }
  const auto exchange =
      MakeExchangePlan(homes, routes, placement_, static_cast<int32_t>(limits_.members.size()));
  std::vector<ExpertId> experts;
  if (!Expect(exchange.status(), "exchange: ")) return experts;
  const std::vector<int32_t>& offsets = exchange->group_offsets[IndexOf(config_.rank)];
  for (ExpertId e = 0; e < config_.model.num_experts; ++e) {
    if (offsets[e] < offsets[e + 1]) experts.push_back(e);
  }
  return experts;
}

int32_t FakeWorker::IndexOf(int32_t rank) const {
  const auto& members = limits_.members;
  return static_cast<int32_t>(std::find(members.begin(), members.end(), rank) - members.begin());
}

bool FakeWorker::Write(std::vector<Cell>& cells, const pregate::Sequence& sequence,
                       int32_t position, const FakeModel::State& after) {
  const BlockId block = sequence.blocks[position / kKvBlockTokens];
  cells[CellIndex(sequence, position)] = {sequence.seq_id, position, after};
  return Expect(users_[block] == 1, absl::StrCat("sequence ", sequence.seq_id, " at ", position,
                                                 ": block ", block, " has other users"));
}

// What it found was looked at when it came.
const FakeModel::State* FakeWorker::Before(const std::vector<Cell>& cells,
                                           const pregate::Sequence& sequence,
                                           int32_t position) const {
  if (position == 0) return &kEmptyPrefix;
  const Cell& cell = cells[CellIndex(sequence, position - 1)];
  const bool found = position <= static_cast<int32_t>(histories_.at(sequence.seq_id).size());
  const bool own = (found || cell.seq_id == sequence.seq_id) && cell.position == position - 1;
  return own ? &cell.after : nullptr;
}

bool FakeWorker::Expect(bool condition, const std::string& what) {
  if (!condition)
    violations_.push_back(absl::StrCat("rank ", config_.rank, " step ", last_step_, ": ", what));
  return condition;
}

int FakeWorker::num_open() const {
  int count = 0;
  for (int32_t slot = 0; slot < table_.seq_slots(); ++slot) count += table_.at(slot).open ? 1 : 0;
  return count;
}

}  // namespace pregate::scheduler
