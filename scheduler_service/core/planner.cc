#include "scheduler_service/core/planner.h"

#include <algorithm>

namespace pregate::scheduler {
namespace {

// One proposal in the making: what is left of budget, slots and blocks.
class Draft {
 public:
  explicit Draft(const PlannerView& view)
      : view_(view),
        free_(view.free_blocks.begin(), view.free_blocks.end()),
        budget_(view.step_tokens),
        slots_(view.free_slots) {
    for (const Sequence* s : view.running) members_.push_back({s, s->home_rank, s->num_blocks()});
    proposal_.rows.reserve(members_.size() + 4);
  }

  void AddDecodeRows();
  void AddPrefillRows();
  void AddWaiting();
  Proposal Take() { return std::move(proposal_); }

 private:
  // A sequence of the batch as the proposal leaves it. Those that ran come first, oldest first.
  struct Member {
    const Sequence* sequence;
    int32_t rank;
    int32_t num_blocks;
    bool preempted = false;
  };

  // Tokens that are known, routed and not sent yet.
  int32_t Unsent(const Sequence& s) const {
    return s.all_routed() ? s.num_tokens() - s.planned : 0;
  }
  bool MayRunLate(const Sequence& s) const;
  bool MakeRoom(Member* member, int32_t num_blocks);
  bool PreemptYoungest(const Member& than);
  void AddChunk(const Sequence& s, int32_t position);
  bool Admit(const Sequence& s);
  int32_t BlocksToAdmit(const Sequence& s, int32_t rank) const;
  bool IsProtected(const Sequence& s) const { return s.preemptions >= view_.preemptions_max; }
  RankBlocks& FreeOf(int32_t rank);

  const PlannerView& view_;
  std::vector<RankBlocks> free_;
  std::vector<Member> members_;
  int32_t budget_;
  int32_t slots_;
  Proposal proposal_;
};

RankBlocks& Draft::FreeOf(int32_t rank) {
  return *std::find_if(free_.begin(), free_.end(),
                       [&](const RankBlocks& r) { return r.rank == rank; });
}

// The sample that the row stands on comes from the very step before, and does not end the sequence
// by its length.
bool Draft::MayRunLate(const Sequence& s) const {
  return view_.late_rows && s.samples_in_flight == 1 && s.planned == s.num_tokens() &&
         s.sample_step + 1 == view_.step_id && s.num_tokens() + 1 < s.max_len;
}

void Draft::AddDecodeRows() {
  for (Member& member : members_) {
    const Sequence& s = *member.sequence;
    const bool late = MayRunLate(s);
    if (budget_ == 0 || member.preempted || (!late && Unsent(s) != 1)) continue;
    if (!MakeRoom(&member, BlocksThrough(s.planned + 1))) continue;
    proposal_.rows.push_back({s.id, s.planned, 1, late, Emit::kSample});
    --budget_;
  }
}

void Draft::AddPrefillRows() {
  for (const Member& member : members_) {
    const Sequence& s = *member.sequence;
    if (budget_ > 0 && !member.preempted && Unsent(s) > 1) AddChunk(s, s.planned);
  }
}

// Its blocks are there since it was added.
void Draft::AddChunk(const Sequence& s, int32_t position) {
  const int32_t count = std::min(s.num_tokens() - position, budget_);
  const Emit emit = position + count == s.num_tokens() ? Emit::kSample : Emit::kNone;
  proposal_.rows.push_back({s.id, position, count, false, emit});
  budget_ -= count;
}

bool Draft::MakeRoom(Member* member, int32_t num_blocks) {
  const int32_t more = num_blocks - member->num_blocks;
  if (more <= 0) return true;
  RankBlocks& free = FreeOf(member->rank);
  while (free.num_blocks < more) {
    if (!PreemptYoungest(*member)) return false;
  }
  free.num_blocks -= more;
  member->num_blocks = num_blocks;
  proposal_.blocks.push_back({member->sequence->id, more});
  return true;
}

// Only younger ones than the one that needs room: those have no row yet, since rows are given
// oldest first.
bool Draft::PreemptYoungest(const Member& than) {
  for (auto victim = members_.rbegin(); victim != members_.rend(); ++victim) {
    if (victim->sequence->id <= than.sequence->id) return false;
    if (victim->preempted || victim->rank != than.rank) continue;
    victim->preempted = true;
    FreeOf(victim->rank).num_blocks += victim->num_blocks;
    proposal_.preempt.push_back(victim->sequence->id);
    return true;
  }
  return false;
}

void Draft::AddWaiting() {
  if (!proposal_.preempt.empty()) return;
  for (const Sequence* s : view_.waiting) {
    if (slots_ == 0 || budget_ == 0) return;
    // One that was preempted in the step before may have a sample under way, or no route for it
    // yet.
    if (s->samples_in_flight > 0 || !s->all_routed()) continue;
    if (!Admit(*s)) return;
  }
}

bool Draft::Admit(const Sequence& s) {
  const auto roomiest = std::max_element(
      free_.begin(), free_.end(),
      [](const RankBlocks& a, const RankBlocks& b) { return a.num_blocks < b.num_blocks; });
  if (roomiest == free_.end() || roomiest->num_blocks < BlocksToAdmit(s, roomiest->rank)) {
    return false;
  }
  const int32_t num_blocks = BlocksThrough(s.num_tokens());
  roomiest->num_blocks -= num_blocks;
  --slots_;
  members_.push_back({&s, roomiest->rank, num_blocks});
  proposal_.add.push_back({s.id, roomiest->rank});
  proposal_.blocks.push_back({s.id, num_blocks});
  AddChunk(s, 0);
  return true;
}

int32_t Draft::BlocksToAdmit(const Sequence& s, int32_t rank) const {
  // Sequences up to this id must be able to reach their ends.
  SeqId guarded = IsProtected(s) ? s.id : 0;
  int32_t num_members = 0;
  for (const Member& m : members_) {
    if (m.rank != rank) continue;
    ++num_members;
    if (IsProtected(*m.sequence)) guarded = std::max(guarded, m.sequence->id);
  }
  if (s.id > guarded) return BlocksThrough(s.num_tokens()) + num_members;
  int32_t to_the_end = BlocksAtEnd(s);
  for (const Member& m : members_) {
    if (m.rank == rank && m.sequence->id <= guarded) {
      to_the_end += BlocksAtEnd(*m.sequence) - m.num_blocks;
    }
  }
  return to_the_end;
}

}  // namespace

Proposal FcfsPlanner::Propose(const PlannerView& view) const {
  Draft draft(view);
  draft.AddDecodeRows();
  draft.AddPrefillRows();
  draft.AddWaiting();
  return draft.Take();
}

}  // namespace pregate::scheduler
