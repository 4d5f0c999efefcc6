// Zero-shot accuracy from log-probabilities of the items' continuations. Pure.
//
// acc: the choice with the largest sum of log-probabilities is the gold one; acc_norm: the same
// after dividing each sum by the continuation's bytes. An item with one choice is right when every token
// of its continuation is the argmax (then both figures are that).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/model/tasks/task_file.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

struct ChoiceTokens {
  std::vector<TokenId> tokens;
  int32_t first_target = 1;  // of the continuation's
};

// The continuation's tokens are those that the whole has beyond the context's, at least one: both may
// meet in the last. What is longer than `tokens_max` loses its beginning.
ChoiceTokens TokensOf(const Tokenizer& tokenizer, const TaskChoice& choice, size_t tokens_max);

struct ChoiceScore {
  double logprob = 0;  // of the continuation, natural logarithm
  bool greedy = false;
};

struct Accuracy {
  int items = 0, right = 0, right_norm = 0;
  double by_chance = 0;  // items that a guess has right, on average

  // REQUIRES: an item was judged.
  double acc() const { return static_cast<double>(right) / items; }
  double acc_norm() const { return static_cast<double>(right_norm) / items; }
  double chance() const { return by_chance / items; }
};

// `scores` [item.choices].
void Judge(const TaskItem& item, absl::Span<const ChoiceScore> scores, Accuracy* accuracy);

}  // namespace pregate
