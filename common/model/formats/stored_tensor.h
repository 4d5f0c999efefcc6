// A tensor as it lies in a file, and its decoding to f32.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/formats/float16.h"
#include "common/model/formats/stored_type.h"
#include "common/model/spec/spec.h"
#include "common/model/spec/weight_rows.h"

namespace pregate {

StoredType StoredTypeOf(DType dtype);

// A view into a mapped file; whoever holds it keeps the file mapped. Its invariant, established by
// CheckedBytes in every reader: bytes.size() is exactly what type and shape ask for.
struct StoredTensor {
  std::string name;  // as in the file
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;  // rows first
  std::string_view bytes;
  std::string file;
  uint64_t offset = 0;     // of bytes in the file
  std::string other_type;  // the file's name for kOther

  int64_t num_elements() const;
  // "FILE: tensor NAME at byte OFFSET", the beginning of every error about it.
  std::string Where() const;
  // Unimplemented or InvalidArgument, naming the type, where the elements are no floats.
  absl::Status CheckFloats() const;
};

// Unimplemented: names the type, and what to give instead.
absl::Status UnsupportedType(const std::string& where, const std::string& type);

// Bytes that a tensor of this type and shape occupies. Refuses negative dimensions, overflow, and
// rows that are not whole blocks.
absl::StatusOr<uint64_t> CheckedBytes(StoredType type, absl::Span<const int64_t> shape,
                                      const std::string& where);
absl::StatusOr<uint64_t> CheckedBytes(const BlockLayout& block, const std::string& type,
                                      absl::Span<const int64_t> shape, const std::string& where);

// out[i] = element first + i. REQUIRES: first and out.size() are multiples of the block's elements,
// the range lies inside the tensor, CheckFloats() is OK.
void DecodeElements(const StoredTensor& tensor, int64_t first, absl::Span<float> out);

// InvalidArgument where a finite value would become an infinity in `dtype`: names tensor, index and
// value. `values` are the tensor's elements from `first` on.
absl::Status CheckFits(const std::string& tensor, absl::Span<const int64_t> shape,
                       absl::Span<const float> values, DType dtype, int64_t first = 0);

// Appends `values` to `out` in `dtype`, little endian.
void EncodeElements(absl::Span<const float> values, DType dtype, std::string* out);

// A canonical tensor as a selection of rows and columns of a stored one. Every layout that is read
// differs from the canonical one by names and by such selections only: GGUF's RoPE permutation of q
// and k rows, shared neurons cut out of the authors' fused experts, an artifact's neuron sets.

struct TensorView {
  StoredTensor stored;
  std::vector<int32_t> rows;  // of a matrix or vector, in this order; empty = all
  std::vector<int32_t> cols;  // of a matrix, likewise

  std::vector<int64_t> shape() const;
  size_t stored_bytes() const;  // its share of the stored tensor
};

// Decodes the selection. REQUIRES: out.size() is the product of view.shape(); rows and cols are in
// range; of a vector whose elements are no blocks, rows may be set.
void ReadView(const TensorView& view, absl::Span<float> out);
// Likewise rows [first, first + out.size() / width) of a view whose rows have `width` elements.
void ReadViewRows(const TensorView& view, int64_t first, int64_t width, absl::Span<float> out);

// Elements first .. first + n - 1 of a view as they lie in the file, where these are the very bits
// that decoding them and rounding to `dtype` would give. Nothing where the type is another one,
// where the view chooses rows or columns, where the address is no multiple of an element's size, and
// where a bf16 is NaN: rounding makes it a quiet one.
std::optional<WeightRows> StoredElements(const TensorView& view, DType dtype, int64_t first,
                                         int64_t n);

}  // namespace pregate
