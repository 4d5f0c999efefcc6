// The canonical tensors of a model (checkpoint.h has the scheme): what every reader must provide
// and what the writer writes, in one order.
#pragma once

#include <string>
#include <vector>

#include "common/model/spec/spec.h"

namespace pregate {

// Which part of the model a tensor belongs to: `inspect` sums by it, and it decides the stored
// type.
enum class TensorPart { kEmbedding, kAttention, kNorm, kFfn, kShared, kExpert, kHead, kRouter };
const char* TensorPartName(TensorPart part);  // "embedding", "attention", ...

struct CanonicalTensor {
  std::string name;
  std::vector<int64_t> shape;  // no dimension is 0: parts of width 0 have no tensors
  TensorPart part = TensorPart::kEmbedding;
  int layer = -1;   // of the backbone; -1 outside of it
  int expert = -1;  // -1 unless part is kExpert

  int64_t num_elements() const;
};

// REQUIRES: ValidateSpec(spec).ok().
std::vector<CanonicalTensor> CanonicalTensors(const ModelSpec& spec);

}  // namespace pregate
