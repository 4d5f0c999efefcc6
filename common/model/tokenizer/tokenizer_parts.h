// The parts of a tokenizer that a spec describes in the words of tokenizer.json.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/normalizer.h"
#include "common/model/tokenizer/pre_tokenizer.h"
#include "common/model/tokenizer/token_decoder.h"
#include "common/model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {

struct TokenizerParts {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;

  // Errors begin with `prefix` and the part's name.
  static absl::StatusOr<TokenizerParts> Make(const PipelineTokenizerSpec& spec,
                                             const std::string& prefix);
};

// What tokenizer.json has for the parts of `spec`; null where a part is left out.
struct PartsJson {
  nlohmann::json normalizer, pre_tokenizer, decoder;
};
absl::StatusOr<PartsJson> PartsJsonOf(const PipelineTokenizerSpec& spec);

// The other way round: sets the spec's normalizer, pre_tokenizer and decoder.
void SetParts(const PartsJson& parts, PipelineTokenizerSpec* spec);

}  // namespace pregate
