#include "common/grammar/token_masks.h"

#include <algorithm>
#include <utility>

#include "common/base/grammar_limits.h"

namespace pregate {
namespace {

constexpr int32_t kDead = -1;
constexpr int32_t kNotMet = -2;

}  // namespace

TokenMasks::TokenMasks(const Automaton& automaton, const TokenTrie& trie)
    : automaton_(&automaton),
      trie_(&trie),
      alike_(automaton.Alike(trie.depth_max())),
      stacks_(automaton, kGrammarStacksMax) {
  Clear();
}

void TokenMasks::Clear() {
  parts_.clear();
  cuts_.assign(1, {TokenTrie::kRoot});
  cut_ids_.clear();
  stacks_.Clear();
  configs_.clear();
  config_ids_.clear();
  next_.clear();
  bytes_ = 0;
}

void TokenMasks::Add(const StackStore& store, StackStore::Stack stack, absl::Span<uint32_t> mask) {
  if (bytes_ > kGrammarMaskBytesMax) Clear();
  for (Cut cut = kWhole; cut != kNothing && stack != StackStore::kBottom;) {
    const Part& part = PartOf(cut, store.state(stack));
    for (size_t i = 0; i < part.words.size(); ++i) mask[i] |= part.words[i];
    for (const TokenId token : part.tokens) mask[token / 32] |= uint32_t{1} << (token % 32);
    cut = part.rest;
    stack = store.below(stack);
  }
}

void TokenMasks::Warm(int64_t nodes) {
  steps_ = 0;
  for (StateId state = 0; state < automaton_->num_states(); ++state) {
    if (steps_ > nodes || bytes_ > kGrammarMaskBytesMax / 2) return;
    if (!automaton_->state(state).edges.empty()) PartOf(kWhole, state);
  }
}

const TokenMasks::Part& TokenMasks::PartOf(Cut cut, StateId state) {
  state = alike_[state];
  std::unique_ptr<Part>& part = parts_[{cut, state}];
  if (part == nullptr) part = std::make_unique<Part>(Compute(cut, state));
  return *part;
}

TokenMasks::Part TokenMasks::Compute(Cut cut, StateId state) {
  const ConfigId first = Intern(stacks_.Start(stacks_.Push(state, StackStore::kBottom)));
  std::vector<TokenId> tokens;
  std::vector<TokenTrie::Node> rest;
  // Walking may add cuts but not while nodes of this one are read.
  for (const TokenTrie::Node node : cuts_[cut]) {
    // The stack without this frame is one of its own where the text is at a token's beginning.
    if (cut != kWhole && configs_[first].can_end) rest.push_back(node);
    Walk(node, first, &tokens, &rest);
  }
  Part part;
  part.rest = InternCut(std::move(rest));
  Pack(std::move(tokens), &part);
  bytes_ += sizeof(Part) + 64 + part.words.size() * 4 + part.tokens.size() * 4;
  return part;
}

void TokenMasks::Walk(TokenTrie::Node node, ConfigId config, std::vector<TokenId>* tokens,
                      std::vector<TokenTrie::Node>* rest) {
  const int base = trie_->depth(node);
  path_.assign(1, config);
  const TokenTrie::Node end = trie_->end(node);
  for (TokenTrie::Node at = node + 1; at < end;) {
    ++steps_;
    const size_t depth = static_cast<size_t>(trie_->depth(at) - base);
    const ConfigId next = Next(path_[depth - 1], trie_->byte(at));
    if (next == kDead) {
      at = trie_->end(at);
      continue;
    }
    path_.resize(depth + 1);
    path_[depth] = next;
    const absl::Span<const TokenId> here = trie_->tokens(at);
    tokens->insert(tokens->end(), here.begin(), here.end());
    if (configs_[next].can_end && trie_->has_children(at)) rest->push_back(at);
    ++at;
  }
}

void TokenMasks::Pack(std::vector<TokenId> tokens, Part* part) const {
  if (tokens.size() < trie_->mask_words()) {
    tokens.shrink_to_fit();
    part->tokens = std::move(tokens);
    return;
  }
  part->words.assign(trie_->mask_words(), 0);
  for (const TokenId token : tokens) part->words[token / 32] |= uint32_t{1} << (token % 32);
}

TokenMasks::Cut TokenMasks::InternCut(std::vector<TokenTrie::Node> nodes) {
  if (nodes.empty()) return kNothing;
  const auto [it, added] = cut_ids_.try_emplace(nodes, static_cast<Cut>(cuts_.size()));
  if (added) {
    bytes_ += nodes.size() * 8 + 128;
    cuts_.push_back(std::move(nodes));
  }
  return it->second;
}

TokenMasks::ConfigId TokenMasks::Intern(Configuration config) {
  if (config.dead()) return kDead;
  const auto [it, added] = config_ids_.try_emplace({config.tops, config.can_end},
                                                   static_cast<ConfigId>(configs_.size()));
  if (added) {
    next_.resize(next_.size() + static_cast<size_t>(automaton_->num_classes()), kNotMet);
    bytes_ += config.tops.size() * 8 + static_cast<size_t>(automaton_->num_classes()) * 4 + 256;
    configs_.push_back(std::move(config));
  }
  return it->second;
}

TokenMasks::ConfigId TokenMasks::Next(ConfigId config, uint8_t byte) {
  const size_t at = static_cast<size_t>(config) * static_cast<size_t>(automaton_->num_classes()) +
                    static_cast<size_t>(automaton_->ClassOf(byte));
  if (next_[at] == kNotMet) {
    const ConfigId next = Intern(stacks_.Step(configs_[config], byte));
    next_[at] = next;
  }
  return next_[at];
}

}  // namespace pregate
