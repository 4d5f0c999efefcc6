// Where a canonical tensor lies in Hugging Face's naming: a tensor of its own, or rows of a fused one
// (Phi-3's qkv_proj and gate_up_proj).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/formats/stored_tensor.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {

struct StoredRows {
  std::string name;
  std::vector<int64_t> shape;  // of the whole tensor as it is stored
  int64_t first_row = 0;
  int64_t num_rows = 0;  // 0: all

  // InvalidArgument, naming both, where what is stored has another shape.
  absl::StatusOr<TensorView> View(const StoredTensor& stored) const;
};

StoredRows SourceOf(const CanonicalTensor& tensor, const ModelSpec& spec, bool fused);

}  // namespace pregate
