// What every policy promises (planner.h), over random loads: nobody starves, no budget or KV rule
// is broken, everything ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/fair_turns.h"
#include "scheduler_service/core/policies.h"
#include "scheduler_service/core/random_source.h"

namespace pregate::scheduler {
namespace {

constexpr int32_t kExperts = 5;

struct Policy {
  const char* label;
  const char* name;   // of PlannerNames
  int32_t age_steps;  // that a sequence may be passed over
  int32_t expert_slots;
};

// One random load on one or two ranks, planned to its end in lockstep or one step ahead.
class World {
 public:
  World(const Policy& policy, uint64_t seed) : policy_(policy), random_(seed) {
    planner_ = MakePlanner(policy.name, {.age_steps = policy.age_steps, .chunk_tokens = 3});
    habits_.Reset(kExperts);
    if (Below(2) == 0) load_cost_.Observe(1000, 10, false);
    late_ = policy.expert_slots == 0 && Below(2) == 0;
    drafts_ = !late_ && Below(3) > 0;
    slots_ = 1 + Below(8);
    step_tokens_ = slots_ + Below(30);
    preemptions_max_ = Below(4);
    const int32_t num_ranks = 1 + Below(2);
    for (int32_t r = 0; r < num_ranks; ++r) ranks_.push_back({r, 5 + Below(10)});
    for (int32_t e = 0; e < kExperts; ++e) {
      const bool resident = policy.expert_slots == 0 || Below(2) == 0;
      experts_.push_back({{e % num_ranks}, resident ? 20 : Below(20), resident});
      experts_.back().units_absent = 20 - experts_.back().units_resident;
    }
    batch_.Reset(ranks_, slots_);
    for (int i = 3 + Below(20); i > 0; --i) Enqueue();
  }

  // Empty, or what went wrong.
  std::string Run() {
    std::string problem;
    for (step_ = 1; problem.empty() && num_finished_ < sequences_.size(); ++step_) {
      if (step_ > 5000) return "it does not end";
      problem = Step();
      for (ExpertPlace& e : experts_) {
        if (policy_.expert_slots > 0 && Below(4) == 0) e.resident = !e.resident;
      }
    }
    return problem;
  }
  int64_t num_preemptions() const { return num_preemptions_; }
  int64_t num_drafts() const { return num_drafts_; }
  int64_t num_found() const { return num_found_; }

 private:
  int32_t Below(int32_t n) { return static_cast<int32_t>(random_.Next() % n); }

  void Enqueue() {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    s->client = Below(3);
    s->priority = Below(3) - 1;
    s->turn = turns_.Next(s->client);
    s->prompt_len = 1 + Below(50);
    s->max_len = std::min(s->prompt_len + 1 + Below(40), 5 * kKvBlockTokens);
    // Some begin as others do, to one point or another.
    std::vector<ExpertId>& routes = routes_of_[Below(3) == 0 ? s->id + 2 : Below(2)];
    for (int32_t i = 0; i < s->prompt_len; ++i) {
      if (i == static_cast<int32_t>(routes.size())) routes.push_back(NextRoute());
      s->Append(i, Below(40) == 0 ? NextRoute() : routes[i]);
    }
    if (Below(3) == 0) s->score_end = s->prompt_len - 1;
    s->masked = Below(4) == 0;
    batch_.Enqueue(s.get());
    sequences_.push_back(std::move(s));
  }
  ExpertId NextRoute() {
    if (Below(10) >= 7) route_ = Below(kExperts);
    return route_;
  }

  std::string Step() {
    PlannerView base;
    base.step_id = step_;
    base.step_tokens = step_tokens_;
    base.preemptions_max = preemptions_max_;
    base.late_rows = late_ && AnyInFlight();
    if (drafts_) base.drafts_cost = &cost_;
    base.load_cost = &load_cost_;
    base.habits = &habits_;
    base.experts = experts_;
    base.expert_slots = policy_.expert_slots;
    const PlannerView view = batch_.View(base);
    const Proposal proposal = planner_->Propose(view);
    if (const std::string problem = Check(view, proposal); !problem.empty()) return problem;
    num_preemptions_ += proposal.preempt.size();
    for (const ProposedAdd& add : proposal.add) turns_.Entered(sequences_[add.seq_id - 1]->turn);
    const CommittedStep step = batch_.Commit(proposal, 1, step_);  // aborts where blocks lack
    if (step.num_tokens > step_tokens_) return "over budget";
    if (const std::string problem = CheckFound(step); !problem.empty()) return problem;
    if (const std::string problem = CheckUsers(); !problem.empty()) return problem;
    for (const SentRow& row : step.rows) {
      if (row.sample_position < 0) unanswered_.push_back(row);
    }
    for (const ProposedRow& row : proposal.rows) {
      const Sequence& s = *sequences_[row.seq_id - 1];
      if (s.num_blocks() < BlocksThrough(s.planned + row.drafts)) return "drafts without blocks";
      num_drafts_ += row.drafts;
    }
    if (step.rows.empty() && !AnyInFlight()) return "nobody has a row";
    if (!late_ || step.rows.empty() || Below(2) == 0) AnswerAll();
    return "";
  }

  std::string Check(const PlannerView& view, const Proposal& proposal) const {
    int32_t rows_of_last = 0;
    for (const ProposedRow& row : proposal.rows) {
      const Sequence& s = *sequences_[row.seq_id - 1];
      const int32_t end = row.position + row.count;
      if (!row.late && end > s.num_routed()) return "a token without route";
      if (!row.late && (row.emit == Emit::kSample) != (end == s.num_tokens())) return "emit";
      if (s.masked && (row.late || row.drafts > 0)) return "a masked row late or with drafts";
      for (int32_t p = row.position; p < end; ++p) {
        const bool wanted = p >= s.scored && p < s.score_end;
        if (wanted != (row.emit == Emit::kScore)) return "scores";
      }
      rows_of_last += row.count;
      if (row.drafts > 0 && (row.late || row.emit != Emit::kSample)) return "drafts of no sample";
      if (row.drafts > static_cast<int32_t>(s.drafts.size())) return "drafts that are not there";
      if (row.drafts > 0 && !proposal.preempt.empty()) return "drafts where blocks lack";
    }
    const auto has = [&](const auto& list, SeqId id) {
      return std::any_of(list.begin(), list.end(), [&](const auto& x) { return x.seq_id == id; });
    };
    const bool short_of_blocks = !proposal.preempt.empty() || !Fits(view, proposal);
    for (const Sequence* s : view.running) {
      const bool could = s->samples_in_flight == 0 && s->num_tokens() == s->planned + 1;
      if (!could || has(proposal.rows, s->id) || short_of_blocks) continue;
      const StepId passed_over = view.step_id - s->idle_since;  // this one included
      if (passed_over > static_cast<StepId>(policy_.age_steps)) {
        return absl::StrCat("sequence ", s->id, " was passed over ", passed_over, " times");
      }
    }
    return "";
  }
  // What is found leaves a token to compute, is a prefix, and is not for who computes all.
  std::string CheckFound(const CommittedStep& step) {
    for (const SequenceAdd& add : step.plan.add) {
      const Sequence& s = *sequences_[add.seq_id - 1];
      const auto found = static_cast<int32_t>(add.history.size());
      num_found_ += found;
      if (found >= s.num_tokens() || found % kKvBlockTokens != 0) return "all found";
      if (!std::equal(add.history.begin(), add.history.end(), s.tokens.begin())) return "history";
      if (s.scored < s.score_end && found > s.scored) return "found what is to be scored";
    }
    return "";
  }
  // Every running sequence holds its blocks, the blocks in use are theirs, and a block that rows may
  // still write to is nobody else's.
  std::string CheckUsers() const {
    std::map<std::pair<int32_t, BlockId>, int32_t> users;
    for (const Sequence* s : batch_.running()) {
      for (const BlockId id : s->blocks) ++users[{s->home_rank, id}];
    }
    if (batch_.num_blocks_used() != static_cast<int64_t>(users.size())) return "blocks in use";
    for (const Sequence* s : batch_.running()) {
      for (int32_t i = s->computed / kKvBlockTokens; i < s->num_blocks(); ++i) {
        if (users.at({s->home_rank, s->blocks[i]}) != 1) return "a shared block is written to";
      }
    }
    return "";
  }
  // Every rank keeps a block for a row that was left out.
  bool Fits(const PlannerView& view, const Proposal& proposal) const {
    int32_t taken = 0, least = INT32_MAX;
    for (const ProposedBlocks& b : proposal.blocks) taken += b.count;
    for (const RankBlocks& r : view.free_blocks) least = std::min(least, r.num_blocks);
    return least > taken;
  }

  bool AnyInFlight() const {
    return std::any_of(sequences_.begin(), sequences_.end(),
                       [](const auto& s) { return s->samples_in_flight > 0; });
  }
  void AnswerAll() {
    for (const SentRow& row : unanswered_) {
      batch_.OnComputed(sequences_[row.seq_id - 1].get(), row.end);
    }
    unanswered_.clear();
    for (const auto& s : sequences_) {
      s->scored = std::max(s->scored, std::min(s->planned, s->score_end));
      while (s->samples_in_flight > 0) {
        const int32_t samples = 1 + Below(s->drafts_in_flight + 1);
        batch_.OnSamples(s.get(), samples);
        if (s->state == SequenceState::kFinished) continue;
        for (int32_t i = 0; i < samples; ++i) s->Append(7, NextRoute());
        MakeDrafts(s.get());
        if (s->num_tokens() < s->max_len) continue;
        batch_.Remove(s.get());
        ++num_finished_;
      }
    }
  }
  void MakeDrafts(Sequence* s) {
    if (s->masked) return;
    for (int32_t i = std::min(Below(20), s->max_len - 1 - s->num_tokens()); i > 0; --i) {
      s->drafts.push_back({7, 0.1f * static_cast<float>(Below(11))});
    }
  }

  const Policy policy_;
  SplitMix64 random_;
  std::unique_ptr<const Planner> planner_;
  LoadCost load_cost_;
  RouteHabits habits_;
  Batch batch_;
  FairTurns turns_;
  std::vector<RankBlocks> ranks_;
  std::vector<ExpertPlace> experts_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  bool late_ = false, drafts_ = false;
  StepCost cost_;
  int32_t slots_ = 0, step_tokens_ = 0, preemptions_max_ = 0;
  StepId step_ = 1;
  ExpertId route_ = 0;
  size_t num_finished_ = 0;
  std::map<uint64_t, std::vector<ExpertId>> routes_of_;  // prompts begin as one of these
  std::vector<SentRow> unanswered_;                      // that do not sample
  int64_t num_preemptions_ = 0, num_drafts_ = 0, num_found_ = 0;
};

class PlannerPropertyTest : public testing::TestWithParam<Policy> {};

TEST_P(PlannerPropertyTest, NobodyStarvesAndEverythingEnds) {
  int64_t preemptions = 0, drafts = 0, found = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    World world(GetParam(), seed);
    ASSERT_EQ(world.Run(), "") << "seed " << seed;
    preemptions += world.num_preemptions();
    drafts += world.num_drafts();
    found += world.num_found();
  }
  EXPECT_GT(preemptions, 0);
  EXPECT_GT(drafts, 0);
  EXPECT_GT(found, 0);
}

INSTANTIATE_TEST_SUITE_P(Policies, PlannerPropertyTest,
                         testing::Values(Policy{"fcfs", "fcfs", 0, 0},
                                         Policy{"fcfs_2_fit", "fcfs", 0, 2},
                                         Policy{"prefill_first", "prefill_first", 5, 0},
                                         Policy{"longest_queue", "longest_queue", 5, 2},
                                         Policy{"by_expert_all_fit", "by_expert", 0, 0},
                                         Policy{"by_expert_2_fit", "by_expert", 4, 2},
                                         Policy{"by_expert_1_fits_age_0", "by_expert", 0, 1},
                                         Policy{"by_expert_3_fit_age_12", "by_expert", 12, 3},
                                         Policy{"horizon_all_fit", "horizon", 0, 0},
                                         Policy{"horizon_2_fit", "horizon", 4, 2},
                                         Policy{"horizon_1_fits_age_0", "horizon", 0, 1},
                                         Policy{"horizon_3_fit_age_20", "horizon", 20, 3}),
                         [](const auto& info) { return info.param.label; });

}  // namespace
}  // namespace pregate::scheduler
