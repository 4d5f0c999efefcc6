// The tokenizer that a GGUF file carries in its metadata.
#pragma once

#include "absl/status/statusor.h"
#include "common/model/gguf.h"
#include "common/model/tokenizer.h"

namespace pregate {

// NotFound without tokenizer keys; Unimplemented, by name, for models other than byte-level BPE
// ("gpt2").
absl::StatusOr<BpeTokenizerSpec> GgufTokenizerSpec(const GgufFile& file);

}  // namespace pregate
