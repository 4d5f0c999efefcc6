// The Precompiled normalizer: SentencePiece's rules as the `tokenizers` package applies them.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/tokenizer/normalizer.h"

namespace pregate {

// InvalidArgument for a charsmap that is no base64 or no rules.
absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakePrecompiledStep(const JsonObject& step);

}  // namespace pregate
