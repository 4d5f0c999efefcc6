#include "common/model/tasks/zero_shot.h"

#include <algorithm>

namespace pregate {

ChoiceTokens TokensOf(const Tokenizer& tokenizer, const TaskChoice& choice, size_t tokens_max) {
  ChoiceTokens out;
  out.tokens = tokenizer.Encode(choice.context + choice.continuation);
  size_t first = tokenizer.Encode(choice.context).size();
  if (out.tokens.size() > tokens_max) {
    const size_t cut = out.tokens.size() - tokens_max;
    out.tokens.erase(out.tokens.begin(), out.tokens.begin() + static_cast<int64_t>(cut));
    first = first > cut ? first - cut : 0;
  }
  const size_t last = out.tokens.empty() ? 0 : out.tokens.size() - 1;
  out.first_target = static_cast<int32_t>(std::max<size_t>(1, std::min(first, last)));
  return out;
}

void Judge(const TaskItem& item, absl::Span<const ChoiceScore> scores, Accuracy* accuracy) {
  ++accuracy->items;
  if (item.choices.size() == 1) {
    accuracy->right += scores[0].greedy;
    accuracy->right_norm += scores[0].greedy;
    return;
  }
  accuracy->by_chance += 1.0 / static_cast<double>(item.choices.size());
  int best = 0, best_norm = 0;
  const auto norm = [&](int i) {
    return scores[i].logprob / static_cast<double>(item.choices[i].continuation.size());
  };
  for (int i = 1; i < static_cast<int>(item.choices.size()); ++i) {
    if (scores[i].logprob > scores[best].logprob) best = i;
    if (norm(i) > norm(best_norm)) best_norm = i;
  }
  accuracy->right += best == item.gold;
  accuracy->right_norm += best_norm == item.gold;
}

}  // namespace pregate
