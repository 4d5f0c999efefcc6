// The steps of pre-tokenizers, one for each type of the `tokenizers` package.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/pre_tokenizer.h"

namespace pregate {

// By its type; Unimplemented, naming it, where it is not known. ByteLevel is the part of that step
// that is done before bytes are spelled in the alphabet.
absl::StatusOr<std::unique_ptr<const PreTokenizerStep>> MakePreTokenizerStep(const JsonStep& step);

}  // namespace pregate
