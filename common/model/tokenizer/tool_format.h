// In which form a model writes calls of tools, found by what its chat template makes of one.
#pragma once

#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// ToolFormat of inference.proto, which says what the members mean.
struct ToolFormat {
  std::string name, begin, end;
  bool is_list = false;
  std::optional<TokenId> begin_token;  // where `begin` is a special token, which has no text

  bool operator==(const ToolFormat&) const = default;
};

// Lays out a conversation with a tool, a call of it and its answer. Nothing: the template leaves
// one of them out or refuses it, or writes the call in a form that is none of the known ones.
std::optional<ToolFormat> FindToolFormat(const Tokenizer& tokenizer);

}  // namespace pregate
