#include "common/grammar/matcher.h"

#include <algorithm>
#include <utility>

#include "common/base/grammar_limits.h"
#include "common/base/status.h"

namespace pregate {

CompiledGrammar::CompiledGrammar(Automaton automaton, std::shared_ptr<const TokenTrie> trie)
    : automaton(std::move(automaton)), trie(std::move(trie)), masks(this->automaton, *this->trie) {}

Matcher::Matcher(std::shared_ptr<CompiledGrammar> grammar)
    : grammar_(std::move(grammar)),
      // Room for what each of the stacks between two tokens may become within one.
      stacks_(grammar_->automaton, kGrammarStacksMax * kGrammarStacksMax),
      now_(stacks_.Start(stacks_.Push(grammar_->automaton.start(), StackStore::kBottom))) {}

bool Matcher::Advance(std::string_view bytes) {
  Configuration next = now_;
  for (const char byte : bytes) {
    next = stacks_.Step(next, static_cast<uint8_t>(byte));
    if (next.dead()) return false;
  }
  stacks_.Cut(kGrammarStacksMax, &next);
  before_.push_back(std::exchange(now_, std::move(next)));
  if (before_.size() > kMatcherRollbackMax) before_.pop_front();
  return true;
}

void Matcher::Rollback(int tokens) {
  PREGATE_CHECK(tokens >= 0 && static_cast<size_t>(tokens) <= before_.size(), "rollback of ",
                tokens);
  if (tokens == 0) return;
  now_ = std::move(before_[before_.size() - static_cast<size_t>(tokens)]);
  before_.resize(before_.size() - static_cast<size_t>(tokens));
}

void Matcher::FillMask(absl::Span<uint32_t> mask, bool may_end) const {
  PREGATE_CHECK(mask.size() == trie().mask_words(), "words: ", mask.size());
  std::fill(mask.begin(), mask.end(), 0);
  for (const int32_t top : now_.tops) grammar_->masks.Add(stacks_, top, mask);
  if (!CanEnd() || (!may_end && !MustEnd())) return;
  for (const TokenId end : trie().end_tokens()) {
    if (end >= 0 && end < trie().vocab_size()) mask[end / 32] |= uint32_t{1} << (end % 32);
  }
}

}  // namespace pregate
