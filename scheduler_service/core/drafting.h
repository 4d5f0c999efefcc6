// Draft tokens (docs/CONTRACTS.md, "Drafts"): guesses of what a sequence samples next, with what
// they are worth. A right one saves a step, a wrong one costs its share of a step and nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "scheduler_service/core/ngram_drafter.h"
#include "scheduler_service/core/sequence.h"
#include "scheduler_service/core/step_cost.h"

namespace pregate::scheduler {

struct DraftChoice {
  std::vector<int32_t> counts;  // [rows]
  double tokens_run = 0;        // one a row, and the drafts
  double tokens_expected = 0;   // one a row, and the drafts that will be right, on average
};

// How many drafts the row of each sequence takes, so that a step gives the most tokens a second: one
// more wherever its chance to count, over what it costs, beats the tokens over the time of the
// step so far. The most likely come first. `tokens_max`: in all.
DraftChoice ChooseDrafts(absl::Span<const absl::Span<const Draft>> rows, const StepCost& cost,
                         int32_t tokens_max);

// Shares of guesses that were right, by how long the match was. Old ones fade.
class HitRates {
 public:
  explicit HitRates(double fading) : fading_(fading) {}
  void Observe(int32_t match, bool right);
  // `prior` weighs as much as two guesses.
  double Of(int32_t match, double prior) const;

 private:
  static constexpr int kClasses = 6;
  static int ClassOf(int32_t match);

  double fading_;
  std::array<double, kClasses> right_{}, all_{};
};

// Makes the drafts of every sequence, and learns how good they are: each token that is drawn shows
// whether its guess was right, run as a draft or not, so what stops paying is stopped and what
// begins to pay is begun, at no cost. Not thread-safe.
class Drafting {
 public:
  // The sequence has new tokens: makes its drafts anew.
  void Follow(Sequence* sequence);
  void Forget(SeqId id) { followed_.erase(id); }
  // A step of decode rows alone has ended.
  void OnDecodeStep(int32_t tokens, double microseconds) { cost_.Observe(tokens, microseconds); }

  // Would those of them that decode gain more by drafts than by running ahead?
  bool BeatsRunAhead(absl::Span<const Sequence* const> running) const;
  const StepCost& cost() const { return cost_; }

 private:
  struct Followed {
    NgramDrafter drafter;
    HitRates rates{0.9};
  };
  double ChanceOf(const Followed& followed, int32_t match) const;

  StepCost cost_;
  HitRates rates_{0.999};  // of all sequences
  absl::flat_hash_map<SeqId, Followed> followed_;
};

}  // namespace pregate::scheduler
