#include "scheduler_service/core/drafting.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "common/base/limits.h"

namespace pregate::scheduler {
namespace {

constexpr double kUnknownChance = 0.5;  // of a guess, before any was made
constexpr double kPriorWeight = 2;
// Running ahead hides the scheduler and the links behind the step: what it saves is a few percent.
constexpr double kRunAheadGain = 1.05;

}  // namespace

DraftChoice ChooseDrafts(absl::Span<const absl::Span<const Draft>> rows, const StepCost& cost,
                         int32_t tokens_max) {
  const auto num_rows = static_cast<double>(rows.size());
  DraftChoice choice{std::vector<int32_t>(rows.size()), num_rows, num_rows};
  using Candidate = std::pair<double, size_t>;  // chance that it counts, row
  std::priority_queue<Candidate> next;
  for (size_t r = 0; r < rows.size(); ++r) {
    if (!rows[r].empty()) next.push({rows[r][0].chance, r});
  }
  for (int32_t left = tokens_max; left > 0 && !next.empty(); --left) {
    const auto [chance, r] = next.top();
    if (chance * cost.Of(choice.tokens_run) <= choice.tokens_expected * cost.per_token()) break;
    next.pop();
    choice.tokens_expected += chance;
    choice.tokens_run += 1;
    const size_t count = ++choice.counts[r];
    if (count < rows[r].size()) next.push({chance * rows[r][count].chance, r});
  }
  return choice;
}

int HitRates::ClassOf(int32_t match) {
  int c = 0;
  for (int32_t bound = NgramDrafter::kMatchMin; c + 1 < kClasses && match > bound; ++c) {
    bound += bound / 2;
  }
  return c;
}

void HitRates::Observe(int32_t match, bool right) {
  const int c = ClassOf(match);
  right_[c] = right_[c] * fading_ + (right ? 1 : 0);
  all_[c] = all_[c] * fading_ + 1;
}

double HitRates::Of(int32_t match, double prior) const {
  const int c = ClassOf(match);
  return (right_[c] + kPriorWeight * prior) / (all_[c] + kPriorWeight);
}

void Drafting::Follow(Sequence* sequence) {
  Sequence& s = *sequence;
  // A penalty or a mask depends on every token before, so its drafts would need a state each.
  if (s.no_drafts || s.masked || s.sampling.depends_on_tokens()) return;
  Followed& followed = followed_[s.id];
  NgramDrafter& drafter = followed.drafter;
  while (drafter.num_followed() < s.num_tokens()) {
    const int32_t position = drafter.num_followed();
    const NgramDrafter::Guess guess = drafter.Follow(s.tokens);
    if (!guess || position < s.prompt_len) continue;
    const bool right = s.tokens[guess.source] == s.tokens[position];
    followed.rates.Observe(guess.match, right);
    rates_.Observe(guess.match, right);
  }
  s.drafts.clear();
  const int32_t count = std::min(kDraftTokensMax, s.max_len - 1 - s.num_tokens());
  if (!drafter.guess() || count <= 0) return;
  int32_t match = drafter.guess().match;
  for (const TokenId token : drafter.Tokens(s.tokens, count)) {
    s.drafts.push_back({token, static_cast<float>(ChanceOf(followed, match))});
    match = std::min(match + 1, NgramDrafter::kMatchMax);
  }
}

double Drafting::ChanceOf(const Followed& followed, int32_t match) const {
  return followed.rates.Of(match, rates_.Of(match, kUnknownChance));
}

bool Drafting::BeatsRunAhead(absl::Span<const Sequence* const> running) const {
  std::vector<absl::Span<const Draft>> rows;
  for (const Sequence* s : running) {
    const bool prefills = s->num_tokens() - s->planned > 1;
    if (!prefills) rows.push_back(s->drafts);
  }
  const auto num_rows = static_cast<double>(rows.size());
  const DraftChoice choice = ChooseDrafts(rows, cost_, INT32_MAX);
  return choice.tokens_expected / cost_.Of(choice.tokens_run) >
         kRunAheadGain * num_rows / cost_.Of(num_rows);
}

}  // namespace pregate::scheduler
