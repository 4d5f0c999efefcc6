#include "common/grammar/token_trie.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace pregate {
namespace {

// How many bytes two texts begin with in common.
size_t CommonPrefix(std::string_view a, std::string_view b) {
  const size_t most = std::min(a.size(), b.size());
  size_t n = 0;
  while (n < most && a[n] == b[n]) ++n;
  return n;
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer, int vocab_size)
    : vocab_size_(vocab_size), end_tokens_(tokenizer.StopTokens()) {
  const absl::flat_hash_set<TokenId> ends(end_tokens_.begin(), end_tokens_.end());
  std::vector<Entry> entries;
  for (TokenId id = 0; id < std::min(vocab_size, tokenizer.vocab_size()); ++id) {
    if (tokenizer.IsSpecial(id) || tokenizer.IsControl(id) || ends.contains(id)) continue;
    if (tokenizer.Form(id) == TokenForm::kNothing) continue;
    const std::string_view bytes = tokenizer.TokenBytes(id);
    if (!bytes.empty()) entries.emplace_back(bytes, id);
  }
  Build(std::move(entries));
}

TokenTrie::TokenTrie(absl::Span<const std::string> tokens, std::vector<TokenId> end_tokens)
    : vocab_size_(static_cast<int>(tokens.size())), end_tokens_(std::move(end_tokens)) {
  std::vector<Entry> entries;
  for (TokenId id = 0; id < vocab_size_; ++id) {
    const bool ends = std::count(end_tokens_.begin(), end_tokens_.end(), id) > 0;
    if (!ends && !tokens[id].empty()) entries.emplace_back(tokens[id], id);
  }
  Build(std::move(entries));
}

void TokenTrie::AddNode(uint8_t byte, int depth) {
  bytes_.push_back(byte);
  depths_.push_back(depth);
  depth_max_ = std::max(depth_max_, depth);
  ends_.push_back(0);
  first_id_.push_back(static_cast<int32_t>(ids_.size()));
}

void TokenTrie::Build(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end());
  std::vector<Node> path = {kRoot};  // to the last node
  AddNode(0, 0);
  std::string_view last;
  for (const auto& [text, id] : entries) {
    const size_t shared = CommonPrefix(last, text);
    for (; path.size() > shared + 1; path.pop_back()) ends_[path.back()] = num_nodes();
    for (size_t i = shared; i < text.size(); ++i) {
      path.push_back(num_nodes());
      AddNode(static_cast<uint8_t>(text[i]), static_cast<int>(i) + 1);
    }
    if (text.size() == 1) alphabet_[static_cast<uint8_t>(text[0])] = true;
    ids_.push_back(id);
    last = text;
  }
  for (const Node node : path) ends_[node] = num_nodes();
  first_id_.push_back(static_cast<int32_t>(ids_.size()));
}

}  // namespace pregate
