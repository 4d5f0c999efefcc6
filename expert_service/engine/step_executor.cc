#include "expert_service/engine/step_executor.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "expert_service/core/draft_cut.h"
#include "expert_service/core/plan_check.h"
#include "expert_service/engine/emit_stage.h"
#include "expert_service/engine/exchange.h"
#include "expert_service/engine/expert_part.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/forward_pass.h"
#include "expert_service/engine/kv_cache.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/engine/replica.h"
#include "expert_service/engine/slot_state.h"
#include "expert_service/engine/step_inputs.h"
#include "expert_service/engine/step_timeline.h"

namespace pregate {

struct StepExecutor::State {
  Device* device;
  Clock* clock;
  ModelSpec spec;
  StepLimits limits;
  MemoryPlan memory;
  std::string model_digest;
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<KvCache> kv;
  std::unique_ptr<ExpertStore> store;  // null when dense, as is the next
  std::unique_ptr<ExpertPart> experts;
  std::unique_ptr<Exchange> exchange;  // null where one rank runs all
  std::vector<PlanToken> plan_tokens;  // of the step, when there is an exchange
  std::vector<size_t> plan_drafts;     // which of them are drafts of this rank
  std::vector<Row> cut_rows;           // of the step, where not all drafts run
  std::unique_ptr<ForwardPass> pass;
  std::unique_ptr<Replica> replica;  // null without a router
  std::unique_ptr<SlotState> slots;
  std::unique_ptr<StepInputs> inputs;
  std::unique_ptr<EmitStage> emit;
  SequenceTable table{0};
  StepTimes times;  // of the last step
  std::unique_ptr<StepTimeline> timeline;

  void ApplyDeltas(const StepPlan& plan, StepResult& result);
  void StageRows(const StepPlan& plan, StepResult& result);
  absl::Status Execute(const StepProgress& on_progress, StepResult& result);
  absl::Status RunLayers(const StepProgress& on_progress);
  void TellTimeline(absl::Time start, StepResult& result);
  void NoteResidency(const ResidencyCounts& before, absl::Duration stalled, StepResult& result);
  absl::Status RouteDrafts();
  void CutDrafts(const StepPlan& plan);
  void StageCut(absl::Span<const std::vector<ExpertId>> routes, absl::Span<const int32_t> counts);
  absl::Status BeginExperts(const StepPlan& plan, StepResult& result);
  std::vector<bool> CommittedExperts(const StepPlan& plan) const;
  std::vector<ExpertId> ExpertSet(const StepPlan& plan) const;
  bool IsHome(const Sequence& sequence) const { return sequence.home_rank == limits.rank; }
  void NotePlanTokens(const Row& row, const Sequence& sequence, bool runs);
  void StageRow(const Row& row, Sequence& sequence, StepResult& result);
  TokenBatch batch() const;
  int64_t MicrosSince(absl::Time start) const {
    return absl::ToInt64Microseconds(clock->Now() - start);
  }
};

namespace {

StepLimits LimitsFor(const ModelSpec& spec, const ExecutorOptions& options,
                     const MemoryPlan& memory) {
  StepLimits limits;
  limits.rank = options.rank;
  limits.members = {options.rank};
  limits.seq_slots = options.seq_slots;
  limits.step_tokens = options.step_tokens;
  limits.context_tokens = memory.context_tokens;
  limits.kv_blocks = memory.kv_blocks;
  limits.vocab_size = spec.vocab_size;
  limits.num_experts = spec.num_experts;
  limits.num_layers = spec.num_layers;
  limits.logprobs_max = kLogprobsMax;
  limits.has_replica = options.with_replica && spec.is_moe() && spec.router.has_value();
  return limits;
}

std::vector<ExpertId> AllExperts(int32_t num_experts) {
  std::vector<ExpertId> experts(num_experts);
  std::iota(experts.begin(), experts.end(), 0);
  return experts;
}

// Rounded up: 0 says that nothing was measured.
void NoteExchange(const ExchangeUse& use, StepTimes& times) {
  times.exchange_us = absl::ToInt64Microseconds(absl::Ceil(use.host_time, absl::Microseconds(1)));
  times.exchange_bytes_sent = use.bytes_sent;
  times.exchange_bytes_received = use.bytes_received;
}

}  // namespace

StepExecutor::StepExecutor(std::unique_ptr<State> state) : state_(std::move(state)) {}
StepExecutor::~StepExecutor() = default;

absl::StatusOr<std::unique_ptr<StepExecutor>> StepExecutor::Create(const Checkpoint& checkpoint,
                                                                   Device* device, Clock* clock,
                                                                   const ExecutorOptions& options,
                                                                   const LoadProgress& progress) {
  const ModelSpec& spec = checkpoint.spec();
  auto s = std::make_unique<State>();
  s->device = device;
  s->timeline = std::make_unique<StepTimeline>(device);
  s->clock = clock;
  s->spec = spec;
  ASSIGN_OR_RETURN(s->memory, PlanMemory(spec, *device, options));
  s->limits = LimitsFor(spec, options, s->memory);
  s->model_digest = checkpoint.digest();
  s->table = SequenceTable(options.seq_slots);
  ASSIGN_OR_RETURN(s->kv, KvCache::Create(device, spec, options.types.kv, s->memory.kv_blocks,
                                          options.with_replica));
  ASSIGN_OR_RETURN(s->weights, ModelWeights::Load(checkpoint, device,
                                                  {.types = options.types,
                                                   .context_tokens = s->memory.context_tokens,
                                                   .threads = options.load_threads},
                                                  progress));
  if (spec.is_moe()) {
    ASSIGN_OR_RETURN(s->store, ExpertStore::Create(&checkpoint, device, options.types.weights,
                                                   options.expert_slots, options.load_threads));
    RETURN_IF_ERROR(
        s->store->Hold(options.experts.value_or(AllExperts(spec.num_experts)), progress));
    ASSIGN_OR_RETURN(s->experts, ExpertPart::Create(device, s->store.get(), spec.num_experts,
                                                    options.step_tokens));
  }
  ASSIGN_OR_RETURN(s->pass, ForwardPass::Create(device, s->weights.get(), s->experts.get(),
                                                options.step_tokens, options.logits_rows_max));
  if (s->limits.has_replica) {
    ASSIGN_OR_RETURN(s->replica,
                     Replica::Create(checkpoint, device, s->kv->replica(), options.step_tokens));
  }
  ASSIGN_OR_RETURN(s->slots, SlotState::Create(device, options.seq_slots, s->memory.context_tokens,
                                               spec.vocab_size));
  ASSIGN_OR_RETURN(s->inputs,
                   StepInputs::Create(device, options.step_tokens, options.logits_rows_max));
  ASSIGN_OR_RETURN(s->emit, EmitStage::Create(device, s->pass.get(), s->slots.get(),
                                              spec.vocab_size, options.step_tokens));
  return std::unique_ptr<StepExecutor>(new StepExecutor(std::move(s)));
}

void StepExecutor::Reset() { state_->table.Clear(); }

absl::Status StepExecutor::Form(std::vector<int32_t> members, const Placement& placement,
                                Collective* collective, const LoadProgress& progress) {
  State& s = *state_;
  s.table.Clear();
  s.limits.members = std::move(members);
  if (!s.store) return absl::OkStatus();
  s.experts->SetExchange(nullptr);
  s.exchange = nullptr;
  const auto self = std::find(s.limits.members.begin(), s.limits.members.end(), s.limits.rank);
  const auto index = static_cast<int32_t>(self - s.limits.members.begin());
  std::vector<ExpertId> held;
  for (size_t e = 0; e < placement.ranks.size(); ++e) {
    const std::vector<int32_t>& ranks = placement.ranks[e];
    if (std::find(ranks.begin(), ranks.end(), index) != ranks.end()) {
      held.push_back(static_cast<ExpertId>(e));
    }
  }
  RETURN_IF_ERROR(s.store->Hold(held, progress));
  if (collective == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(s.exchange, Exchange::Create(s.device, collective, placement, s.spec.hidden,
                                                s.weights->types(), s.limits.step_tokens, s.clock));
  s.experts->SetExchange(s.exchange.get());
  return absl::OkStatus();
}

StepResult StepExecutor::Run(const StepPlan& plan, const StepProgress& on_progress) {
  State& s = *state_;
  const absl::Time start = s.clock->Now();
  StepResult result;
  result.epoch = plan.epoch;
  result.rank = s.limits.rank;
  result.step_id = plan.step_id;
  s.times = StepTimes();
  result.status = CheckPlan(plan, s.limits, s.table);
  if (!result.status.ok()) return result;

  s.timeline->Begin();
  s.ApplyDeltas(plan, result);
  s.StageRows(plan, result);
  const ResidencyCounts before = s.store ? s.store->counts() : ResidencyCounts();
  const absl::Duration stalled = s.store ? s.store->stalled() : absl::ZeroDuration();
  // With several ranks, one without rows still runs its experts for the others.
  if (s.inputs->num_tokens() > 0 || (s.exchange && !s.plan_tokens.empty())) {
    s.times.num_tokens = s.inputs->num_tokens();
    result.status = s.RouteDrafts();
    if (result.status.ok()) s.CutDrafts(plan);
    if (result.status.ok()) result.status = s.BeginExperts(plan, result);
    if (result.status.ok()) result.status = s.Execute(on_progress, result);
    if (s.exchange) NoteExchange(s.exchange->use(), s.times);
  }
  if (s.store) {
    s.store->EndStep();
    s.NoteResidency(before, stalled, result);
  }
  if (result.status.ok()) s.TellTimeline(start, result);
  result.step_us = s.MicrosSince(start);
  return result;
}

void StepExecutor::State::TellTimeline(absl::Time start, StepResult& result) {
  result.begin_us = absl::ToUnixMicros(start);
  result.device_clock = device->has_clock();
  result.activities =
      timeline->Collect(store ? store->TakeTransfers() : std::vector<TransferSpan>());
  if (!exchange) return;
  for (const ExchangeUse::Span& span : exchange->use().spans) {
    if (result.activities.size() >= kStepActivitiesMax) break;
    const int64_t begin_us = absl::ToInt64Microseconds(span.begin - start);
    result.activities.push_back(
        {Activity::kExchange, begin_us, absl::ToInt64Microseconds(span.end - start) - begin_us});
  }
}

void StepExecutor::State::ApplyDeltas(const StepPlan& plan, StepResult& result) {
  for (const Wanted& wanted : plan.wanted) {
    if (wanted.rank == limits.rank && store) store->SetWanted(wanted.units, wanted.load_first);
  }
  for (int32_t slot : plan.drop) table.Close(slot);
  for (const SequenceAdd& add : plan.add) {
    table.Open(add);
    if (!IsHome(table.at(add.seq_slot))) continue;
    if (absl::Status status = CheckAdd(add, limits); !status.ok()) {
      result.row_errors.push_back(table.at(add.seq_slot).Fail(std::string(status.message())));
    } else {
      slots->Open(add);
    }
  }
  for (const BlockTableUpdate& update : plan.blocks) {
    Sequence& sequence = table.at(update.seq_slot);
    if (sequence.failed() || !IsHome(sequence)) continue;
    if (absl::Status status = CheckBlocks(update, limits, sequence); !status.ok()) {
      result.row_errors.push_back(sequence.Fail(std::string(status.message())));
    } else {
      table.SetBlocks(update);
      slots->SetBlocks(update);
    }
  }
}

void StepExecutor::State::StageRows(const StepPlan& plan, StepResult& result) {
  inputs->Clear();
  plan_tokens.clear();
  plan_drafts.clear();
  for (const Row& row : plan.rows) StageRow(row, table.at(row.seq_slot), result);
  inputs->Upload();
}

void StepExecutor::State::StageRow(const Row& row, Sequence& sequence, StepResult& result) {
  absl::Status status = IsHome(sequence) ? CheckRow(row, limits, sequence) : absl::OkStatus();
  NotePlanTokens(row, sequence, IsHome(sequence) && status.ok());
  if (!IsHome(sequence)) return;
  if (!status.ok()) {
    result.row_errors.push_back(sequence.Fail(std::string(status.message())));
    return;
  }
  const int32_t end = row.position + row.count;
  if (!row.allowed.empty()) slots->SetAllowed(row.seq_slot, row.allowed);
  inputs->AddRow(row, replica ? ReplicaFillFrom(sequence, row) : end);
  sequence.length = end;
  if (replica) sequence.replica_length = end;
}

// The route of a late row is known at its home: the step before has been collected there.
void StepExecutor::State::NotePlanTokens(const Row& row, const Sequence& sequence, bool runs) {
  if (!exchange) return;
  const auto home = std::find(limits.members.begin(), limits.members.end(), sequence.home_rank);
  PlanToken token{static_cast<int32_t>(home - limits.members.begin()), kNoRoute};
  for (int32_t i = 0; i < row.count; ++i) {
    const bool draft = i >= row.committed();
    if (runs && draft) plan_drafts.push_back(plan_tokens.size());
    if (runs && !draft) token.route = row.late ? sequence.sampled_route : row.routes[i];
    plan_tokens.push_back(token);
  }
}

// Which experts the step needs is known when the replica has seen the drafts.
absl::Status StepExecutor::State::RouteDrafts() {
  if (inputs->num_drafts() == 0 || !replica) return absl::OkStatus();
  const absl::Time start = clock->Now();
  timeline->Enter(Activity::kRouter);
  replica->FillKv(*inputs, *slots);
  RETURN_IF_ERROR(replica->RouteDrafts(*slots, inputs.get()));
  timeline->Leave();
  for (size_t d = 0; d < plan_drafts.size(); ++d) {
    plan_tokens[plan_drafts[d]].route = inputs->DraftRoute(d);
  }
  times.router_us += MicrosSince(start);
  return absl::OkStatus();
}

// Where units move, a draft runs only if its expert is at hand: no load for a guess may stall what is
// certain.
void StepExecutor::State::CutDrafts(const StepPlan& plan) {
  if (!store || store->whole() || exchange || inputs->num_drafts() == 0) return;
  std::vector<std::vector<ExpertId>> routes;
  size_t draft = 0;
  for (const auto& [row, first] : inputs->rows()) {
    std::vector<ExpertId>& of_row = routes.emplace_back();
    for (int32_t i = 0; i < row->drafts; ++i) of_row.push_back(inputs->DraftRoute(draft++));
  }
  ExpertsAtHand experts{
      .needed = CommittedExperts(plan), .resident = {}, .room = store->num_fitting()};
  for (ExpertId e = 0; e < limits.num_experts; ++e) {
    experts.resident.push_back(store->IsResident(e));
  }
  const std::vector<int32_t> counts = DraftsAtHand(routes, std::move(experts));
  StageCut(routes, counts);
}

// The rows again, with so many drafts each.
void StepExecutor::State::StageCut(absl::Span<const std::vector<ExpertId>> routes,
                                   absl::Span<const int32_t> counts) {
  std::vector<ExpertId> kept;
  cut_rows.clear();
  for (size_t r = 0; r < counts.size(); ++r) {
    Row& row = cut_rows.emplace_back(*inputs->rows()[r].first);
    row.count = row.committed() + counts[r];
    if (!row.late) row.tokens.resize(row.count);
    row.drafts = counts[r];
    kept.insert(kept.end(), routes[r].begin(), routes[r].begin() + counts[r]);
  }
  if (static_cast<int32_t>(kept.size()) == inputs->num_drafts()) return;
  inputs->Clear();
  for (const Row& row : cut_rows) {
    const int32_t end = row.position + row.count;
    inputs->AddRow(row, /*fill_from=*/end);  // the replica has seen all that is committed
    Sequence& sequence = table.at(row.seq_slot);
    sequence.length = sequence.replica_length = end;
  }
  inputs->Upload();
  inputs->SetDraftRoutes(kept);
  times.num_tokens = inputs->num_tokens();
}

absl::Status StepExecutor::State::BeginExperts(const StepPlan& plan, StepResult& result) {
  if (!store) return absl::OkStatus();
  std::vector<ExpertId> expert_set;
  if (exchange) {
    RETURN_IF_ERROR(exchange->BeginStep(plan_tokens));
    expert_set = exchange->expert_set();
  } else {
    expert_set = ExpertSet(plan);
  }
  result.unique_experts = static_cast<int32_t>(expert_set.size());
  result.experts.assign(expert_set.begin(), expert_set.end());
  store->BeginStep(std::move(expert_set));
  return absl::OkStatus();
}

TokenBatch StepExecutor::State::batch() const {
  const StepArrays& a = inputs->device();
  return {inputs->tokens(), a.token_ids,           a.positions,
          a.seq_slots,      slots->block_tables(), slots->blocks_per_seq()};
}

absl::Status StepExecutor::State::Execute(const StepProgress& on_progress, StepResult& result) {
  const StepArrays& a = inputs->device();
  const absl::Time start = clock->Now();
  timeline->Enter(Activity::kRouter);
  device->ResolveLate(inputs->tokens(), a.late, a.seq_slots, slots->last_token(),
                      slots->last_route(), a.token_ids, a.routes);
  device->NoteTokens(inputs->tokens(), a.token_ids, a.positions, a.seq_slots, limits.vocab_size,
                     slots->history());
  if (replica && inputs->num_drafts() == 0) replica->FillKv(*inputs, *slots);
  times.router_us += MicrosSince(start);

  timeline->Enter(Activity::kLayers);
  RETURN_IF_ERROR(RunLayers(on_progress));

  timeline->Enter(Activity::kEmit);
  const absl::Time emit_start = clock->Now();
  ASSIGN_OR_RETURN(const bool emitted, emit->Run(*inputs, on_progress));
  if (!emitted) return absl::AbortedError("the step was stopped");
  times.sample_us = MicrosSince(emit_start);

  timeline->Enter(Activity::kRouter);
  const absl::Time route_start = clock->Now();
  if (replica && inputs->num_samples() > 0) replica->RouteSamples(emit->last_samples(), *slots);
  times.router_us += MicrosSince(route_start);
  timeline->Leave();
  if (exchange) RETURN_IF_ERROR(exchange->Wait());
  return emit->Collect(*inputs, replica.get(), table, result);
}

absl::Status StepExecutor::State::RunLayers(const StepProgress& on_progress) {
  const absl::Time start = clock->Now();
  if (experts) experts->BeginStep(inputs->tokens(), inputs->device().routes);
  RETURN_IF_ERROR(pass->Run(batch(), kv->backbone(), on_progress));
  times.forward_us = MicrosSince(start);
  return absl::OkStatus();
}

// The routes of late rows are known here: the step before has been collected. So are drafts'.
std::vector<ExpertId> StepExecutor::State::ExpertSet(const StepPlan& plan) const {
  std::vector<bool> used = CommittedExperts(plan);
  for (int32_t d = 0; d < inputs->num_drafts(); ++d) used[inputs->DraftRoute(d)] = true;
  std::vector<ExpertId> experts;
  for (ExpertId e = 0; e < limits.num_experts; ++e) {
    if (used[e]) experts.push_back(e);
  }
  return experts;
}

std::vector<bool> StepExecutor::State::CommittedExperts(const StepPlan& plan) const {
  std::vector<bool> used(limits.num_experts);
  for (const Row& row : plan.rows) {
    const Sequence& sequence = table.at(row.seq_slot);
    if (sequence.failed()) continue;
    if (row.late) used[sequence.sampled_route] = true;
    for (ExpertId route : row.routes) used[route] = true;
  }
  return used;
}

void StepExecutor::State::NoteResidency(const ResidencyCounts& before, absl::Duration stalled,
                                        StepResult& result) {
  const ResidencyCounts after = store->counts();
  times.stall_us = absl::ToInt64Microseconds(store->stalled() - stalled);
  times.unit_hits = after.hits - before.hits;
  times.unit_misses = after.misses - before.misses;
  times.unit_late_prefetches = after.late_prefetches - before.late_prefetches;
  times.unit_evictions = after.evictions - before.evictions;
  result.unit_events = store->TakeEvents();
  result.stall_us = times.stall_us;
  result.unit_hits = times.unit_hits;
  // One that was on its way was not there, either.
  result.unit_misses = times.unit_misses + times.unit_late_prefetches;
}

absl::StatusOr<DecodeCost> StepExecutor::MeasureDecodeCost() {
  constexpr int kSteps = 4;  // the first one loads, and sizes what is sized at first use
  State& s = *state_;
  const ExpertId expert = s.store->first_held();
  DecodeCost cost{.step = absl::InfiniteDuration(), .unit_load = {}};
  for (int32_t i = 0; i < kSteps; ++i) {
    StepPlan plan;
    if (i == 0) plan.add = {{.home_rank = s.limits.rank}};
    if (i == 0) plan.blocks = {{.ids = {0}}};
    Row& row = plan.rows.emplace_back();
    row.position = i;
    row.count = 1;
    row.emit = Emit::kSample;
    row.tokens = {0};
    row.routes = {expert};
    const StepResult result = Run(plan, nullptr);
    RETURN_IF_ERROR(result.status);
    if (i > 0) cost.step = std::min(cost.step, absl::Microseconds(result.step_us));
  }
  s.table.Clear();
  ASSIGN_OR_RETURN(cost.unit_load, s.store->TimeLoad(s.clock));
  return cost;
}

std::vector<UnitEvent> StepExecutor::Tick() {
  if (!state_->store) return {};
  state_->store->Tick();
  return state_->store->TakeEvents();
}

std::vector<UnitId> StepExecutor::ResidentUnits() const {
  return state_->store ? state_->store->ResidentUnits() : std::vector<UnitId>();
}

ResidencyStats StepExecutor::residency() const {
  return state_->store ? state_->store->stats() : ResidencyStats();
}

const StepTimes& StepExecutor::times() const { return state_->times; }
const StepLimits& StepExecutor::limits() const { return state_->limits; }
const MemoryPlan& StepExecutor::memory() const { return state_->memory; }
const std::string& StepExecutor::model_digest() const { return state_->model_digest; }
std::string StepExecutor::router_digest() const {
  return state_->replica ? state_->replica->digest() : "";
}
std::string StepExecutor::numerics_id() const {
  return state_->device->numerics_id(state_->weights->types());
}
std::string StepExecutor::device_name() const { return state_->device->name(); }

}  // namespace pregate
