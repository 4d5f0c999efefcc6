#include "scheduler_service/core/batch.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

std::vector<ExpertId> ExpertsOf(const StepPlan& plan) {
  std::vector<bool> named;
  for (const Row& row : plan.rows) {
    for (const ExpertId e : row.routes) {
      if (static_cast<size_t>(e) >= named.size()) named.resize(e + 1);
      named[e] = true;
    }
  }
  std::vector<ExpertId> experts;
  for (size_t e = 0; e < named.size(); ++e) {
    if (named[e]) experts.push_back(static_cast<ExpertId>(e));
  }
  return experts;
}

}  // namespace

void Batch::Reset(absl::Span<const RankBlocks> ranks, int32_t seq_slots) {
  for (Sequence* s : running_) {
    Publish(s);
    BlocksOf(s->home_rank).Release(s->blocks);
    s->state = SequenceState::kPreempted;
    waiting_.Insert(s);
  }
  running_.clear();
  for (Sequence* s : waiting_.First(INT32_MAX)) {
    s->slot = s->home_rank = -1;
    s->blocks.clear();
    s->planned = s->computed = s->published = 0;
    s->samples_in_flight = s->drafts_in_flight = 0;
    s->sample_step = s->idle_since = 0;
  }
  last_step_ = 0;
  drops_.clear();
  members_.clear();
  for (const RankBlocks& r : ranks) {
    members_.push_back(r.rank);
    const auto it = kv_.find(r.rank);
    if (it != kv_.end() && it->second.num_blocks() != r.num_blocks) Forget(r.rank);
    kv_.try_emplace(r.rank, r.num_blocks);
  }
  free_slots_.clear();
  for (int32_t slot = seq_slots; slot-- > 0;) free_slots_.push_back(slot);
}

void Batch::Forget(int32_t rank) {
  const auto it = kv_.find(rank);
  if (it == kv_.end()) return;
  forgotten_evictions_ += it->second.num_evictions();
  kv_.erase(it);
}

void Batch::Enqueue(Sequence* sequence) {
  PREGATE_CHECK(sequence->num_routed() > 0, "sequence ", sequence->id);
  sequence->state = SequenceState::kQueued;
  sequence->idle_since = last_step_;
  waiting_.Insert(sequence);
}

void Batch::Remove(Sequence* sequence) {
  if (sequence->state == SequenceState::kRunning) {
    Release(sequence);
    running_.erase(FindRunning(sequence->id));
  } else {
    waiting_.Erase(sequence);
  }
  sequence->state = SequenceState::kFinished;
}

PlannerView Batch::View(PlannerView base) {
  for (Sequence* s : running_) Publish(s);
  view_blocks_.clear();
  for (const int32_t rank : members_) {
    const KvBlocks& kv = kv_.at(rank);
    view_blocks_.push_back({rank, kv.num_free(), &kv});
  }
  // Some of the first may not be ready: look a few further than there are slots.
  constexpr int32_t kUnreadyMax = 16;
  view_waiting_.clear();
  for (Sequence* s : waiting_.First(num_free_slots() + kUnreadyMax)) {
    LookUp(s);
    view_waiting_.push_back(s);
  }
  base.free_slots = num_free_slots();
  base.free_blocks = view_blocks_;
  base.running = running();
  base.waiting = view_waiting_;
  return base;
}

// Its blocks that are full of committed tokens now, and known to be computed. Others find them from
// the next plan on.
void Batch::Publish(Sequence* s) {
  const int32_t num_full = std::min(s->computed, s->num_routed()) / kKvBlockTokens;
  if (!prefix_cache_ || s->published >= num_full) return;
  s->ExtendKeys();
  KvBlocks& kv = BlocksOf(s->home_rank);
  for (; s->published < num_full; ++s->published) {
    kv.Publish(s->blocks[s->published], s->keys[s->published]);
  }
}

void Batch::LookUp(Sequence* s) {
  if (!prefix_cache_) return;
  s->ExtendKeys();
  const absl::Span<const PrefixKey> keys = s->keys_to_find();
  int32_t most = 0;
  for (const int32_t rank : members_) {
    most = std::max(most, kv_.at(rank).CountFound(keys, s->found / kKvBlockTokens));
  }
  s->found = most * kKvBlockTokens;
}

CommittedStep Batch::Commit(const Proposal& proposal, Epoch epoch, StepId step_id) {
  CommittedStep step;
  last_step_ = step_id;
  step.plan.epoch = epoch;
  step.plan.step_id = step_id;
  for (SeqId id : proposal.preempt) Preempt(id);
  step.plan.drop = std::exchange(drops_, {});
  for (const ProposedAdd& add : proposal.add) Add(add, &step.plan);
  for (const ProposedBlocks& blocks : proposal.blocks) step.plan.blocks.push_back(Grow(blocks));
  step.plan.rows.reserve(proposal.rows.size());
  step.rows.reserve(proposal.rows.size());
  for (const ProposedRow& row : proposal.rows) AddRow(row, &step);
  step.experts = ExpertsOf(step.plan);
  step.plan.wanted = proposal.wanted;
  return step;
}

void Batch::Preempt(SeqId id) {
  const SequenceIter it = FindRunning(id);
  Sequence* s = *it;
  Release(s);
  s->idle_since = last_step_;
  running_.erase(it);
  ++s->preemptions;
  s->state = SequenceState::kPreempted;
  waiting_.Insert(s);
}

// Samples under way stay counted: they are true tokens, and the sequence is added again only when
// they have come.
void Batch::Release(Sequence* s) {
  Publish(s);
  BlocksOf(s->home_rank).Release(s->blocks);
  s->blocks.clear();
  s->planned = s->computed = s->published = 0;
  drops_.push_back(s->slot);
  free_slots_.push_back(s->slot);
  s->slot = s->home_rank = -1;
}

void Batch::Add(const ProposedAdd& add, StepPlan* plan) {
  Sequence* const s = waiting_.Enter(add.seq_id);
  PREGATE_CHECK(s != nullptr && !free_slots_.empty(), "add of sequence ", add.seq_id);
  running_.insert(FindRunning(s->id), s);
  s->state = SequenceState::kRunning;
  s->home_rank = add.home_rank;
  s->slot = free_slots_.back();
  free_slots_.pop_back();
  Reuse(s, add.found_blocks);
  SequenceAdd& out = plan->add.emplace_back();
  out.seq_slot = s->slot;
  out.seq_id = s->id;
  out.home_rank = s->home_rank;
  out.sampling = s->sampling;
  out.seed = s->seed;
  out.generated_from = s->prompt_len;
  out.logit_bias = s->logit_bias;
  if (s->min_tokens > 0) {
    out.banned_until = s->prompt_len + s->min_tokens;
    out.banned = s->end_tokens;
  }
  out.traceparent = s->traceparent;
  out.history.assign(s->tokens.begin(), s->tokens.begin() + s->planned);
  if (!s->blocks.empty()) plan->blocks.push_back({s->slot, 0, s->blocks});
}

// It begins behind what its home has of it.
void Batch::Reuse(Sequence* s, int32_t num_blocks) {
  KvBlocks& kv = BlocksOf(s->home_rank);
  for (int32_t i = 0; i < num_blocks; ++i) s->blocks.push_back(kv.Find(s->keys[i]).value());
  kv.Share(s->blocks);
  s->published = num_blocks;
  s->planned = s->computed = num_blocks * kKvBlockTokens;
  if (s->reused < 0) s->reused = s->planned;
}

BlockTableUpdate Batch::Grow(const ProposedBlocks& blocks) {
  Sequence* s = *FindRunning(blocks.seq_id);
  BlockTableUpdate update{s->slot, s->num_blocks(), BlocksOf(s->home_rank).Allocate(blocks.count)};
  s->blocks.insert(s->blocks.end(), update.ids.begin(), update.ids.end());
  return update;
}

void Batch::AddRow(const ProposedRow& proposed, CommittedStep* step) {
  Sequence* s = *FindRunning(proposed.seq_id);
  PREGATE_CHECK(proposed.position == s->planned, "row of sequence ", s->id, " at ",
                proposed.position, " after ", s->planned);
  Row row;
  row.seq_slot = s->slot;
  row.position = proposed.position;
  row.count = proposed.count;
  row.late = proposed.late;
  row.emit = proposed.emit;
  if (!row.late) {
    const auto first = s->tokens.begin() + row.position;
    row.tokens.assign(first, first + row.count);
    const auto route = s->routes.begin() + row.position;
    if (!s->dense) row.routes.assign(route, route + row.count);
  }
  s->planned += row.count;
  const bool is_decode = row.count == 1 && row.emit == Emit::kSample;
  step->decodes_only &= is_decode;
  step->num_decodes += is_decode;
  for (int32_t i = 0; i < proposed.drafts; ++i) row.tokens.push_back(s->drafts[i].token);
  row.drafts = proposed.drafts;
  row.count += proposed.drafts;
  s->idle_since = step->plan.step_id;
  SentRow sent{s->id, s->home_rank, -1};
  sent.end = s->planned;
  sent.position = row.position;
  if (row.emit == Emit::kScore) {
    sent.scores = row.count;
    row.logprobs_k = std::max(s->prompt_logprobs, 1);
    const auto target = s->tokens.begin() + row.position + 1;
    row.targets.assign(target, target + row.count);
  }
  if (row.emit == Emit::kSample) {
    if (s->logprobs >= 0) row.logprobs_k = std::max(s->logprobs, 1);
    if (s->masked) row.allowed = s->allowed;
    sent.sample_position = s->planned;
    sent.drafts = s->drafts_in_flight = row.drafts;
    s->sample_step = step->plan.step_id;
    ++s->samples_in_flight;
  }
  step->num_tokens += row.count;
  step->has_late_rows |= row.late;
  step->rows.push_back(sent);
  step->plan.rows.push_back(std::move(row));
}

// The right drafts have keys and values already.
void Batch::OnSamples(Sequence* sequence, int32_t count) {
  --sequence->samples_in_flight;
  sequence->drafts_in_flight = 0;
  if (sequence->state != SequenceState::kRunning) return;
  sequence->planned += count - 1;
  sequence->computed = sequence->num_tokens() + count - 1;
}

// Of one that was preempted meanwhile nothing is there to find.
void Batch::OnComputed(Sequence* sequence, int32_t end) {
  if (sequence->state != SequenceState::kRunning) return;
  sequence->computed = std::max(sequence->computed, end);
}

void Batch::Distrust(Sequence* sequence) {
  if (sequence->state != SequenceState::kRunning) return;
  for (const BlockId id : sequence->blocks) BlocksOf(sequence->home_rank).Retract(id);
  sequence->computed = 0;
}

// Where the id stands, or would stand.
Batch::SequenceIter Batch::FindRunning(SeqId id) {
  return std::lower_bound(running_.begin(), running_.end(), id,
                          [](const Sequence* s, SeqId value) { return s->id < value; });
}

KvBlocks& Batch::BlocksOf(int32_t rank) {
  const auto it = kv_.find(rank);
  PREGATE_CHECK(it != kv_.end(), "rank ", rank, " is no member");
  return it->second;
}

int64_t Batch::num_routed_ahead() const {
  int64_t tokens = 0;
  for (const Sequence* s : running_) tokens += std::max(s->num_routed() - s->planned, 0);
  return tokens;
}

int64_t Batch::num_blocks() const {
  int64_t total = 0;
  for (const int32_t rank : members_) total += kv_.at(rank).num_blocks();
  return total;
}

int64_t Batch::num_blocks_used() const {
  int64_t total = 0;
  for (const int32_t rank : members_) total += kv_.at(rank).num_used();
  return total;
}

int64_t Batch::num_blocks_cached() const {
  int64_t total = 0;
  for (const int32_t rank : members_) total += kv_.at(rank).num_cached();
  return total;
}

int64_t Batch::num_evictions() const {
  int64_t total = forgotten_evictions_;
  for (const auto& [rank, kv] : kv_) total += kv.num_evictions();
  return total;
}

}  // namespace pregate::scheduler
