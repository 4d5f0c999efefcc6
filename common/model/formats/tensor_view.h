// A canonical tensor as a selection of rows and columns of a stored one. Every layout that is read
// differs from the canonical one by names and by such selections only: GGUF's RoPE permutation of q
// and k rows, shared neurons cut out of the authors' fused experts, an artifact's neuron sets.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate {

struct TensorView {
  StoredTensor stored;
  std::vector<int32_t> rows;  // of a matrix, in this order; empty = all
  std::vector<int32_t> cols;  // likewise

  std::vector<int64_t> shape() const;
  size_t stored_bytes() const;  // its share of the stored tensor
};

// Decodes the selection. REQUIRES: out.size() is the product of view.shape(); rows and cols are in
// range and only set for matrices.
void ReadView(const TensorView& view, absl::Span<float> out);

}  // namespace pregate
