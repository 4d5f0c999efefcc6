#include "common/model/tokenizer/byte_tokens.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"

namespace pregate {

ByteTokens::ByteTokens(const TokenIds& ids) {
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = ids.find(std::string(absl::StrFormat("<0x%02X>", byte)));
    ids_[byte] = it == ids.end() ? kMissing : it->second;
  }
}

bool ByteTokens::Append(std::string_view text, std::vector<TokenId>* ids) const {
  const auto id_of = [&](char c) { return ids_[static_cast<uint8_t>(c)]; };
  const bool all =
      std::all_of(text.begin(), text.end(), [&](char c) { return id_of(c) != kMissing; });
  if (all) std::transform(text.begin(), text.end(), std::back_inserter(*ids), id_of);
  return all;
}

}  // namespace pregate
