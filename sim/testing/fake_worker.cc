#include "sim/testing/fake_worker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/testing/fake_router.h"

namespace pregate::scheduler {

FakeWorker::FakeWorker(const FakeWorkerConfig& config, uint64_t incarnation)
    : config_(config),
      incarnation_(incarnation),
      slots_(config.seq_slots),
      cells_(static_cast<size_t>(config.kv_blocks) * kKvBlockTokens),
      owner_(config.kv_blocks, -1) {}

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
  hello.resident_units = resident_;
  hello.highest_epoch = epoch_;
  return hello;
}

Formed FakeWorker::OnForm(const Form& form) {
  Formed formed;
  formed.epoch = form.epoch;
  if (form.epoch <= epoch_) {
    formed.status =
        absl::FailedPreconditionError(absl::StrCat("epoch ", form.epoch, ", has seen ", epoch_));
    return formed;
  }
  epoch_ = form.epoch;
  last_step_ = 0;
  void_ = false;
  queue_.clear();
  std::fill(slots_.begin(), slots_.end(), Slot());
  std::fill(owner_.begin(), owner_.end(), -1);
  return formed;
}

bool FakeWorker::OnPlan(StepPlan plan) {
  if (plan.epoch != epoch_) return false;
  queue_.push_back(std::move(plan));
  Expect(queue_.size() <= (config_.late_rows ? 2u : 1u),
         absl::StrCat(queue_.size(), " plans are unanswered"));
  return true;
}

StepResult FakeWorker::RunNext() {
  const StepPlan plan = std::move(queue_.front());
  queue_.pop_front();
  StepResult result;
  result.epoch = epoch_;
  result.rank = config_.rank;
  result.incarnation = incarnation_;
  result.step_id = plan.step_id;
  if (void_ || plan.step_id != last_step_ + 1) {
    void_ = true;
    result.status =
        absl::FailedPreconditionError(absl::StrCat("step ", plan.step_id, " follows ", last_step_));
    return result;
  }
  last_step_ = plan.step_id;
  if (!Apply(plan, &result)) {
    void_ = true;
    result.status = absl::InvalidArgumentError(violations_.back());
  }
  return result;
}

bool FakeWorker::Apply(const StepPlan& plan, StepResult* result) {
  int32_t num_tokens = 0;
  for (int32_t slot : plan.drop) {
    if (!Drop(slot)) return false;
  }
  for (const SequenceAdd& add : plan.add) {
    if (!Add(add)) return false;
  }
  for (const BlockTableUpdate& update : plan.blocks) {
    if (!SetBlocks(update)) return false;
  }
  for (const Wanted& wanted : plan.wanted) {
    if (wanted.rank == config_.rank && !Load(wanted, result)) return false;
  }
  for (const Row& row : plan.rows) {
    num_tokens += row.count;
    if (!RunRow(row, plan.step_id, result)) return false;
  }
  return Expect(num_tokens <= config_.step_tokens, absl::StrCat(num_tokens, " tokens in a step"));
}

bool FakeWorker::Drop(int32_t slot) {
  if (!Expect(slot >= 0 && slot < config_.seq_slots && slots_[slot].open,
              absl::StrCat("drop of slot ", slot))) {
    return false;
  }
  std::replace(owner_.begin(), owner_.end(), slot, -1);
  slots_[slot] = Slot();
  return true;
}

bool FakeWorker::Add(const SequenceAdd& add) {
  const bool fits =
      add.seq_slot >= 0 && add.seq_slot < config_.seq_slots && !slots_[add.seq_slot].open;
  if (!Expect(fits, absl::StrCat("add to slot ", add.seq_slot))) return false;
  for (const Slot& slot : slots_) {
    if (!Expect(!slot.open || slot.add.seq_id != add.seq_id,
                absl::StrCat("sequence ", add.seq_id, " twice"))) {
      return false;
    }
  }
  slots_[add.seq_slot].open = true;
  slots_[add.seq_slot].add = add;
  return Expect(add.history.empty(), "an add with a history, or without a prompt");
}

bool FakeWorker::SetBlocks(const BlockTableUpdate& update) {
  Slot& slot = slots_[update.seq_slot];
  if (!Expect(slot.open && update.first_index == static_cast<int32_t>(slot.blocks.size()),
              absl::StrCat("blocks of slot ", update.seq_slot, " from ", update.first_index))) {
    return false;
  }
  for (BlockId id : update.ids) {
    slot.blocks.push_back(id);
    if (!Home(slot)) continue;
    if (!Expect(id >= 0 && id < config_.kv_blocks && owner_[id] == -1,
                absl::StrCat("block ", id, " is not free"))) {
      return false;
    }
    owner_[id] = update.seq_slot;
  }
  return true;
}

// Loads at once and keeps nothing else.
bool FakeWorker::Load(const Wanted& wanted, StepResult* result) {
  const auto has = [](const std::vector<UnitId>& units, const UnitId& unit) {
    return std::find(units.begin(), units.end(), unit) != units.end();
  };
  if (!Expect(config_.unit_slots > 0 && wanted.load_first <= config_.unit_slots &&
                  wanted.load_first <= static_cast<int32_t>(wanted.units.size()),
              absl::StrCat("wanted: loads ", wanted.load_first))) {
    return false;
  }
  const std::vector<UnitId> next(wanted.units.begin(), wanted.units.begin() + wanted.load_first);
  for (size_t i = 0; i < wanted.units.size(); ++i) {
    const UnitId& unit = wanted.units[i];
    const bool known = unit.layer >= 0 && unit.layer < config_.num_layers && unit.expert >= 0 &&
                       unit.expert < config_.model.num_experts;
    const bool once = std::count(wanted.units.begin(), wanted.units.end(), unit) == 1;
    if (!Expect(known && once, "wanted: a unit twice, or unknown")) return false;
  }
  for (const UnitId& unit : resident_) {
    if (!has(next, unit)) result->unit_events.push_back({++last_event_, unit, UnitState::kAbsent});
  }
  for (const UnitId& unit : next) {
    if (!has(resident_, unit))
      result->unit_events.push_back({++last_event_, unit, UnitState::kResident});
  }
  resident_ = next;
  return true;
}

bool FakeWorker::CheckRow(const Row& row, const Slot& slot, StepId step_id) {
  const std::string where = absl::StrCat("row of slot ", row.seq_slot, " at ", row.position, ": ");
  if (!Expect(slot.open, where + "not open")) return false;
  const size_t known = row.late ? 0 : row.count, routed = row.late ? 0 : row.committed();
  const int32_t through = row.position + row.count + (row.emit == Emit::kSample ? 1 : 0);
  // How many drafts were right is known at home.
  const bool follows = row.position == slot.length || !Home(slot);
  return Expect(row.count > 0 && follows, where + "not contiguous") &&
         Expect(row.tokens.size() == known, where + "tokens") &&
         Expect(row.routes.size() == (config_.model.num_experts > 0 ? routed : 0),
                where + "routes") &&
         Expect(through <= static_cast<int32_t>(slot.blocks.size()) * kKvBlockTokens,
                where + "blocks") &&
         Expect(through <= config_.context_tokens, where + "context") &&
         Expect(
             row.drafts >= 0 && row.committed() > 0 &&
                 (row.drafts == 0 || (row.emit == Emit::kSample &&
                                      (config_.routes_samples || config_.model.num_experts == 0))),
             where + "drafts") &&
         Expect(!row.late || (config_.late_rows && row.count == 1),
                where + "late rows are not allowed") &&
         Expect(
             !row.late || (slot.sample_step + 1 == step_id && slot.sample_position == row.position),
             where + "not the sample of the step before");
}

bool FakeWorker::RunRow(const Row& row, StepId step_id, StepResult* result) {
  Slot& slot = slots_[row.seq_slot];
  const std::string where = absl::StrCat("row of slot ", row.seq_slot, " at ", row.position, ": ");
  if (!Expect(row.seq_slot >= 0 && row.seq_slot < config_.seq_slots, where) ||
      !CheckRow(row, slot, step_id)) {
    return false;
  }
  slot.length = row.position + row.committed();
  if (row.emit == Emit::kSample) {
    slot.sample_step = step_id;
    slot.sample_position = slot.length;
  }
  if (!Home(slot)) return true;
  FakeModel::State state;
  if (row.position > 0) {
    const Cell& before = CellAt(slot, row.position - 1);
    if (!Expect(before.seq_id == slot.add.seq_id && before.position == row.position - 1,
                where + "KV is not its own")) {
      return false;
    }
    state = before.after;
  }
  for (int32_t i = 0; i < row.committed(); ++i) {
    const TokenId token = row.late ? slot.sample_token : row.tokens[i];
    const ExpertId truth = config_.model.RouteOf(state, token);
    const ExpertId route = row.late || config_.model.num_experts == 0 ? truth : row.routes[i];
    if (!Expect(route == truth, where + "route is not the router's")) return false;
    state = config_.model.After(state, token, route);
    CellAt(slot, row.position + i) = {slot.add.seq_id, row.position + i, state};
  }
  if (row.emit != Emit::kSample) return true;
  for (int32_t i = row.committed();; ++i) {
    slot.sample_token = config_.model.SampleAt(state, slot.length, slot.add.seed);
    Sample sample;
    sample.seq_id = slot.add.seq_id;
    sample.position = slot.length;
    sample.token = slot.sample_token;
    const ExpertId route = config_.model.RouteOf(state, slot.sample_token);
    if (config_.routes_samples) sample.route = route;
    result->samples.push_back(sample);
    slot.sample_position = slot.length;
    if (i == row.count || row.tokens[i] != slot.sample_token) return true;
    ++right_drafts_;
    state = config_.model.After(state, slot.sample_token, route);
    CellAt(slot, slot.length) = {slot.add.seq_id, slot.length, state};
    ++slot.length;
  }
}

FakeWorker::Cell& FakeWorker::CellAt(const Slot& slot, int32_t position) {
  return cells_[static_cast<size_t>(slot.blocks[position / kKvBlockTokens]) * kKvBlockTokens +
                position % kKvBlockTokens];
}

bool FakeWorker::Expect(bool condition, const std::string& what) {
  if (!condition)
    violations_.push_back(absl::StrCat("rank ", config_.rank, " step ", last_step_, ": ", what));
  return condition;
}

int FakeWorker::num_open() const {
  return static_cast<int>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& s) { return s.open; }));
}

}  // namespace pregate::scheduler
