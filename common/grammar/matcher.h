// Follows one text through a grammar, and says which tokens may come next.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string_view>

#include "absl/types/span.h"
#include "common/grammar/automaton.h"
#include "common/grammar/stacks.h"
#include "common/grammar/token_masks.h"
#include "common/grammar/token_trie.h"

namespace pregate {

// A grammar that is ready for a vocabulary. One thread uses it and its matchers.
struct CompiledGrammar {
  CompiledGrammar(Automaton automaton, std::shared_ptr<const TokenTrie> trie);
  CompiledGrammar(const CompiledGrammar&) = delete;
  CompiledGrammar& operator=(const CompiledGrammar&) = delete;

  const Automaton automaton;
  const std::shared_ptr<const TokenTrie> trie;
  TokenMasks masks;  // what is computed on the way

  size_t bytes() const { return automaton.bytes() + masks.bytes(); }  // from any thread
};

// Whatever a mask allows can be finished: some token is allowed as long as the text is not
// complete, and where nothing may follow the text may end. Memory grows with the depth of the text's
// nesting. Not thread-safe; copies are independent.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<CompiledGrammar> grammar);

  // Reads one token. False where the text cannot begin so; then nothing has changed.
  bool Advance(std::string_view bytes);
  // Takes back the last `tokens` calls of Advance. REQUIRES: so many, and at most
  // kMatcherRollbackMax.
  void Rollback(int tokens);
  // The text is complete as it stands.
  bool CanEnd() const { return now_.can_end; }
  // The text is complete, and nothing can follow.
  bool MustEnd() const { return now_.tops.empty(); }
  // One bit a token, the lowest first: bit id % 32 of mask[id / 32]. Tokens that end a text are
  // allowed exactly where CanEnd, and not without `may_end`, unless they must. REQUIRES:
  // mask.size() is the trie's mask_words().
  void FillMask(absl::Span<uint32_t> mask, bool may_end = true) const;

  const TokenTrie& trie() const { return *grammar_->trie; }

 private:
  std::shared_ptr<CompiledGrammar> grammar_;
  StackStore stacks_;
  Configuration now_;
  std::deque<Configuration> before_;  // the last ones, by token
};

}  // namespace pregate
