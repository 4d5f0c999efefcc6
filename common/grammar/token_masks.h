// Which tokens a pushdown automaton allows. A token is read frame by frame: what a stack's top rule
// reads of it depends on the top state alone, and what is left where that rule ends is read by the
// frame below. So the tokens of a stack are a union over its frames, each part of which depends on
// one state and on where in the vocabulary's trie the frames above have left off; such parts are
// computed once and kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/grammar/automaton.h"
#include "common/grammar/stacks.h"
#include "common/grammar/token_trie.h"

namespace pregate {

// Keeps at most some kGrammarMaskBytesMax. Not thread-safe: whoever holds it uses it alone. Borrows
// the automaton and the trie.
class TokenMasks {
 public:
  TokenMasks(const Automaton& automaton, const TokenTrie& trie);

  // Sets the bit of each token that `stack` of `store` allows as a whole.
  void Add(const StackStore& store, StackStore::Stack stack, absl::Span<uint32_t> mask);
  // Computes what texts will ask for first, as far as `nodes` steps through the trie go.
  void Warm(int64_t nodes);

  size_t bytes() const { return bytes_; }  // from any thread

 private:
  using ConfigId = int32_t;
  using Cut = int32_t;  // nodes of the trie where the frames above have ended; a number of cuts_
  static constexpr Cut kWhole = 0;  // the root: nothing has been read yet
  static constexpr Cut kNothing = -1;

  // What one frame allows behind one cut.
  struct Part {
    std::vector<uint32_t> words;  // a mask, or empty where `tokens` are few
    std::vector<TokenId> tokens;
    Cut rest = kNothing;  // for the frame below
  };

  const Part& PartOf(Cut cut, StateId state);
  Part Compute(Cut cut, StateId state);
  // Reads what stands below `node` from `config` on.
  void Walk(TokenTrie::Node node, ConfigId config, std::vector<TokenId>* tokens,
            std::vector<TokenTrie::Node>* rest);
  void Pack(std::vector<TokenId> tokens, Part* part) const;
  Cut InternCut(std::vector<TokenTrie::Node> nodes);
  ConfigId Intern(Configuration config);
  ConfigId Next(ConfigId config, uint8_t byte);
  void Clear();

  const Automaton* automaton_;
  const TokenTrie* trie_;
  const std::vector<StateId> alike_;  // by state: the one whose parts are its own too
  absl::flat_hash_map<std::pair<Cut, StateId>, std::unique_ptr<Part>> parts_;
  std::vector<std::vector<TokenTrie::Node>> cuts_;
  absl::flat_hash_map<std::vector<TokenTrie::Node>, Cut> cut_ids_;
  // What is above one frame while a token is read: configurations of a stack of that frame alone,
  // with their successors by class of bytes as they are met.
  StackStore stacks_;
  std::vector<Configuration> configs_;
  absl::flat_hash_map<std::pair<std::vector<int32_t>, bool>, ConfigId> config_ids_;
  std::vector<ConfigId> next_;  // [configs, classes]
  std::vector<ConfigId> path_;  // of a walk, by depth
  int64_t steps_ = 0;           // through the trie
  std::atomic<size_t> bytes_ = 0;
};

}  // namespace pregate
