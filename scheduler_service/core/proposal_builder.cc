#include "scheduler_service/core/proposal_builder.h"

#include <algorithm>

#include "scheduler_service/core/drafting.h"
#include "scheduler_service/core/home_rank.h"

namespace pregate::scheduler {
namespace {

// `other` is going to compute, and to publish, the first block that `s` lacks.
bool ComputesFor(const Sequence& other, const Sequence& s) {
  const auto next = static_cast<size_t>(s.found / kKvBlockTokens);
  return next < s.keys_to_find().size() && next >= static_cast<size_t>(other.published) &&
         next < other.keys.size() && other.keys[next] == s.keys[next];
}

}  // namespace

ProposalBuilder::ProposalBuilder(const PlannerView& view)
    : view_(view),
      free_(view.free_blocks.begin(), view.free_blocks.end()),
      budget_(view.step_tokens),
      slots_(view.free_slots) {
  members_.reserve(view.running.size() + 4);
  for (const Sequence* s : view.running) members_.push_back({s, s->home_rank, s->num_blocks()});
  proposal_.rows.reserve(members_.size() + 4);
}

bool ProposalBuilder::MayRunLate(const PlannerView& view, const Sequence& s) {
  return view.late_rows && !s.masked && s.samples_in_flight == 1 && s.drafts_in_flight == 0 &&
         s.planned == s.num_tokens() && s.sample_step + 1 == view.step_id &&
         s.num_tokens() + 1 < s.max_len;
}

void ProposalBuilder::AddDecodeRow(size_t running) {
  Member& member = members_[running];
  const Sequence& s = *member.sequence;
  const bool late = MayRunLate(view_, s);
  if (budget_ == 0 || member.preempted || (!late && !MayDecode(s))) return;
  if (!MakeRoom(&member, BlocksThrough(s.planned + 1))) return;
  proposal_.rows.push_back({s.id, s.planned, 1, late, Emit::kSample});
  --budget_;
}

void ProposalBuilder::AddChunk(size_t running, int32_t tokens_max) {
  const Member& member = members_[running];
  const Sequence& s = *member.sequence;
  if (budget_ > 0 && tokens_max > 0 && !member.preempted && MayPrefill(s)) {
    AddRow(s, s.planned, tokens_max);
  }
}

// One row, but what is scored has its own: what was scored before, what is now, and the rest.
void ProposalBuilder::AddRow(const Sequence& s, int32_t position, int32_t tokens_max) {
  const int32_t end = position + std::min({s.num_routed() - position, budget_, tokens_max});
  while (position < end) {
    const bool scores = position >= s.scored && position < s.score_end;
    const int32_t emit_end = scores ? s.score_end : position < s.scored ? s.scored : end;
    int32_t count = std::min(emit_end, end) - position;
    if (scores) {
      count = std::min(count, scores_);
      scores_ -= count;
      if (count == 0) return;
    }
    const bool samples = position + count == s.num_tokens();
    const Emit emit = scores ? Emit::kScore : samples ? Emit::kSample : Emit::kNone;
    proposal_.rows.push_back({s.id, position, count, false, emit});
    position += count;
    budget_ -= count;
  }
}

Proposal ProposalBuilder::Take() {
  if (view_.drafts_cost != nullptr && !has_preempted()) AddDrafts();
  return std::move(proposal_);
}

void ProposalBuilder::AddDrafts() {
  absl::flat_hash_map<SeqId, Member*> by_id;
  for (Member& member : members_) by_id.emplace(member.sequence->id, &member);
  std::vector<std::pair<ProposedRow*, Member*>> rows;
  std::vector<absl::Span<const Draft>> drafts;
  for (ProposedRow& row : proposal_.rows) {
    if (row.late || row.emit != Emit::kSample) continue;
    rows.emplace_back(&row, by_id.at(row.seq_id));
    drafts.push_back(rows.back().second->sequence->drafts);
  }
  const std::vector<int32_t> counts = ChooseDrafts(drafts, *view_.drafts_cost, budget_).counts;
  for (size_t r = 0; r < rows.size(); ++r) {
    auto& [row, member] = rows[r];
    if (counts[r] == 0) continue;
    const int32_t end = row->position + row->count;  // where its sample stands
    row->drafts = std::min(counts[r], GrowFor(member, end + counts[r]) - end);
    budget_ -= row->drafts;
  }
}

bool ProposalBuilder::MakeRoom(Member* member, int32_t num_blocks) {
  const int32_t more = num_blocks - member->num_blocks;
  if (more <= 0) return true;
  RankBlocks& free = FreeOf(member->rank);
  while (free.num_blocks < more) {
    if (!PreemptYounger(*member)) return false;
  }
  free.num_blocks -= more;
  member->num_blocks = num_blocks;
  proposal_.blocks.push_back({member->sequence->id, more});
  return true;
}

// The last position up to `position_max` that its blocks hold, with what is free.
int32_t ProposalBuilder::GrowFor(Member* member, int32_t position_max) {
  RankBlocks& free = FreeOf(member->rank);
  const int32_t need = BlocksThrough(position_max) - member->num_blocks;
  if (const int32_t more = std::min(need, free.num_blocks); more > 0) {
    free.num_blocks -= more;
    member->num_blocks += more;
    proposal_.blocks.push_back({member->sequence->id, more});
  }
  return std::min(position_max, member->num_blocks * kKvBlockTokens - 1);
}

// Only younger ones than the one that needs room: those have no row yet. Those up to the youngest
// protected one can all reach their ends, so they are the last.
bool ProposalBuilder::PreemptYounger(const Member& than) {
  const SeqId guarded = GuardedOn(than.rank);
  const auto cost = [&](const Member& m) {
    return std::pair(m.sequence->id <= guarded, m.sequence->priority);
  };
  Member* victim = nullptr;
  for (auto m = members_.rbegin(); m != members_.rend(); ++m) {
    if (m->sequence->id <= than.sequence->id) break;
    if (m->preempted || m->rank != than.rank) continue;
    if (victim == nullptr || cost(*m) < cost(*victim)) victim = &*m;
  }
  if (victim == nullptr) return false;
  Preempt(victim);
  return true;
}

// One that may be preempted of the client that runs most, if it runs more than one: of the lowest
// priority, then the youngest. None above the newcomer's priority.
bool ProposalBuilder::PreemptOfTheLargest(const Sequence& newcomer) {
  absl::flat_hash_map<uint64_t, int32_t> num_running;
  for (const Member& m : members_) num_running[m.sequence->client] += m.preempted ? 0 : 1;
  Member* victim = nullptr;
  for (auto m = members_.rbegin(); m != members_.rend(); ++m) {
    const Sequence& s = *m->sequence;
    if (m->preempted || IsProtected(s) || s.priority > newcomer.priority) continue;
    const auto gain = [&](const Sequence& of) {
      return std::pair(num_running[of.client], -of.priority);
    };
    if (num_running[s.client] < 2) continue;
    if (victim == nullptr || gain(s) > gain(*victim->sequence)) victim = &*m;
  }
  if (victim == nullptr) return false;
  Preempt(victim);
  ++slots_;
  return true;
}

// Blocks that others use too stay in use.
void ProposalBuilder::Preempt(Member* victim) {
  victim->preempted = true;
  RankBlocks& free = FreeOf(victim->rank);
  free.num_blocks += victim->num_blocks - victim->sequence->num_blocks();  // of this proposal
  for (const BlockId id : victim->sequence->blocks) {
    --more_users_[{free.rank, id}];
    if (UsersOf(free, id) == 0) ++free.num_blocks;
  }
  proposal_.preempt.push_back(victim->sequence->id);
}

bool ProposalBuilder::Admit(const Sequence& s, int32_t tokens_max) {
  if (slots_ == 0 || budget_ == 0) return false;
  if (AwaitsOther(s)) return true;
  RankBlocks* home = HomeFor(s);
  if (home == nullptr) return false;
  const int32_t num_blocks = BlocksThrough(s.num_tokens());
  const int32_t found = FoundBlocks(s, *home);
  home->num_blocks -= num_blocks - found;
  for (int32_t i = 0; i < found; ++i) {
    const BlockId id = *home->kv->Find(s.keys[i]);
    if (UsersOf(*home, id) == 0) --home->num_blocks;
    ++more_users_[{home->rank, id}];
  }
  --slots_;
  members_.push_back({&s, home->rank, num_blocks});
  proposal_.add.push_back({s.id, home->rank, found});
  proposal_.blocks.push_back({s.id, num_blocks - found});
  AddRow(s, found * kKvBlockTokens, tokens_max);
  return true;
}

bool ProposalBuilder::AwaitsOther(const Sequence& s) const {
  return std::any_of(members_.begin(), members_.end(),
                     [&](const Member& m) { return !m.preempted && ComputesFor(*m.sequence, s); });
}

bool ProposalBuilder::AdmitNewcomer(const Sequence& s, int32_t tokens_max) {
  // Every running sequence keeps its decode row, and the block that it may need (BlocksToAdmit).
  tokens_max = std::min(tokens_max, budget_ - static_cast<int32_t>(members_.size()));
  if (tokens_max <= 0) return false;
  while (!Admit(s, tokens_max)) {
    if (!PreemptOfTheLargest(s)) return false;
  }
  return true;
}

// The rank that has computed most of it if there is room, or that of its expert, else the roomiest.
RankBlocks* ProposalBuilder::HomeFor(const Sequence& s) {
  const absl::Span<RankBlocks> free = absl::MakeSpan(free_);
  for (RankBlocks* choice :
       {HomeOfPrefix(s, free), PreferredHome(s, view_.experts, free), Roomiest(free)}) {
    if (choice != nullptr && choice->num_blocks >= BlocksToAdmit(s, *choice)) return choice;
  }
  return nullptr;
}

int32_t ProposalBuilder::UsersOf(const RankBlocks& rank, BlockId id) const {
  const auto more = more_users_.find({rank.rank, id});
  return (rank.kv ? rank.kv->num_users(id) : 1) + (more == more_users_.end() ? 0 : more->second);
}

int32_t ProposalBuilder::BlocksToAdmit(const Sequence& s, const RankBlocks& home) const {
  int32_t used = 0;  // of what it finds: that takes nothing of what is free
  for (int32_t i = FoundBlocks(s, home); i-- > 0;) {
    used += UsersOf(home, *home.kv->Find(s.keys[i])) > 0 ? 1 : 0;
  }
  // Sequences up to this id must be able to reach their ends.
  const SeqId guarded = std::max(IsProtected(s) ? s.id : 0, GuardedOn(home.rank));
  const auto num_members =
      static_cast<int32_t>(std::count_if(members_.begin(), members_.end(), [&](const Member& m) {
        return m.rank == home.rank && !m.preempted;
      }));
  if (s.id > guarded) return BlocksThrough(s.num_tokens()) + num_members - used;
  int32_t to_the_end = BlocksAtEnd(s) - used;
  for (const Member& m : members_) {
    if (m.rank == home.rank && !m.preempted && m.sequence->id <= guarded) {
      to_the_end += BlocksAtEnd(*m.sequence) - m.num_blocks;
    }
  }
  return to_the_end;
}

// The youngest protected one; 0: none.
SeqId ProposalBuilder::GuardedOn(int32_t rank) const {
  SeqId guarded = 0;
  for (const Member& m : members_) {
    const bool runs = m.rank == rank && !m.preempted;
    if (runs && IsProtected(*m.sequence)) guarded = std::max(guarded, m.sequence->id);
  }
  return guarded;
}

RankBlocks& ProposalBuilder::FreeOf(int32_t rank) {
  return *std::find_if(free_.begin(), free_.end(),
                       [&](const RankBlocks& r) { return r.rank == rank; });
}

const Sequence* Newcomer(const PlannerView& view) {
  const auto runs_nothing = [&](const Sequence* s) {
    return std::none_of(view.running.begin(), view.running.end(),
                        [&](const Sequence* r) { return r->client == s->client; });
  };
  for (const Sequence* s : view.waiting) {
    const auto computes_for = [&](const Sequence* r) { return ComputesFor(*r, *s); };
    const bool may_enter = ProposalBuilder::MayEnter(*s) &&
                           std::none_of(view.running.begin(), view.running.end(), computes_for);
    if (may_enter && runs_nothing(s)) return s;
  }
  return nullptr;
}

ProposalBuilder StartProposal(const PlannerView& view, const Sequence* newcomer,
                              int32_t tokens_max) {
  if (newcomer != nullptr) {
    ProposalBuilder builder(view);
    if (builder.AdmitNewcomer(*newcomer, tokens_max) && builder.has_preempted()) return builder;
  }
  return ProposalBuilder(view);
}

}  // namespace pregate::scheduler
