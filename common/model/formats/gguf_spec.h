// What a GGUF file's metadata says of a model, in the keys of its architecture's own namespace
// ("llama.", "qwen2.", ...).
#pragma once

#include "absl/status/statusor.h"
#include "common/model/formats/architectures.h"
#include "common/model/formats/gguf.h"
#include "common/model/spec/spec.h"

namespace pregate {

// Unimplemented, by name, for what changes the numbers and is not known.
absl::StatusOr<ModelSpec> ReadGgufSpec(const GgufFile& file, const Architecture& architecture);

}  // namespace pregate
