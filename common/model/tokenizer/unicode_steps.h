// Normalizers that are Unicode's: NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/normalizer.h"

namespace pregate {

// By its type; Unimplemented, naming it, where it is none of these.
absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakeUnicodeStep(const JsonStep& step);

}  // namespace pregate
