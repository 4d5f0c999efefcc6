#include "common/model/formats/stored_tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_join.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {

static_assert(std::endian::native == std::endian::little, "model files are little endian");

StoredType StoredTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return StoredType::kF32;
    case DType::kF16:
      return StoredType::kF16;
    case DType::kBF16:
      return StoredType::kBF16;
  }
  return StoredType::kF32;
}

int64_t StoredTensor::num_elements() const {
  int64_t n = 1;
  for (const int64_t dim : shape) n *= dim;
  return n;
}

std::string StoredTensor::Where() const {
  return absl::StrCat(file, ": tensor ", name, " at byte ", offset);
}

absl::Status StoredTensor::CheckFloats() const {
  if (type == StoredType::kOther) return UnsupportedType(Where(), other_type);
  if (type == StoredType::kI8) return UnsupportedType(Where(), StoredTypeName(type));
  if (type != StoredType::kI32) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(Where(), ": holds integers (I32)"));
}

absl::Status UnsupportedType(const std::string& where, const std::string& type) {
  return absl::UnimplementedError(
      absl::StrCat(where, ": element type ", type, " is not supported: ", kGiveOtherWeights));
}

absl::StatusOr<uint64_t> CheckedBytes(StoredType type, absl::Span<const int64_t> shape,
                                      const std::string& where) {
  return CheckedBytes(BlockLayoutOf(type), StoredTypeName(type), shape, where);
}

absl::StatusOr<uint64_t> CheckedBytes(const BlockLayout& block, const std::string& type,
                                      absl::Span<const int64_t> shape, const std::string& where) {
  const auto bad = [&](const char* why) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": shape [", absl::StrJoin(shape, ","), "] of ", type, ": ", why));
  };
  if (shape.size() > static_cast<size_t>(kTensorRankMax)) return bad("too many axes");
  int64_t elements = 1;  // signed, as num_elements() multiplies
  for (const int64_t dim : shape) {
    if (dim < 0) return bad("negative dimension");
    if (__builtin_mul_overflow(elements, dim, &elements)) return bad("overflows");
  }
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % block.elements != 0) return bad("a row is not a whole number of blocks");
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements / block.elements),
                             static_cast<uint64_t>(block.bytes), &bytes) ||
      bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return bad("overflows");
  }
  return bytes;
}

void DecodeElements(const StoredTensor& tensor, int64_t first, absl::Span<float> out) {
  const StoredFormat& format = FormatOf(tensor.type);
  const auto [elements, bytes] = format.block;
  PREGATE_CHECK(format.decode != nullptr, "tensor ", tensor.name, " holds no floats");
  PREGATE_CHECK(first % elements == 0 && out.size() % elements == 0, "tensor ", tensor.name);
  const uint64_t begin = static_cast<uint64_t>(first / elements), count = out.size() / elements;
  PREGATE_CHECK((begin + count) * bytes <= tensor.bytes.size(), "tensor ", tensor.name);
  format.decode(tensor.bytes.data() + begin * bytes, count, out.data());
}

namespace {

// The magnitudes, as bits, of finite values that round to infinity: [first, infinity).
constexpr int32_t kInfinityBits = 0x7F800000;
int32_t FirstOverflowingBits(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return 0x477FF000;  // 65520
    case DType::kBF16:
      return 0x7F7F8000;
    case DType::kF32:
      break;
  }
  return kInfinityBits;
}

// "[3,17]"
std::string IndexText(absl::Span<const int64_t> shape, int64_t element) {
  std::vector<int64_t> index(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; element /= shape[axis]) {
    index[axis] = element % shape[axis];
  }
  return absl::StrCat("[", absl::StrJoin(index, ","), "]");
}

}  // namespace

absl::Status CheckFits(const std::string& tensor, absl::Span<const int64_t> shape,
                       absl::Span<const float> values, DType dtype, int64_t first) {
  const int32_t least = FirstOverflowingBits(dtype);
  if (least == kInfinityBits) return absl::OkStatus();
  const auto overflows = [least](float value) {
    const int32_t magnitude = std::bit_cast<int32_t>(value) & 0x7FFFFFFF;
    return static_cast<int>(magnitude >= least) & static_cast<int>(magnitude < kInfinityBits);
  };
  // Without an early end, so that the compiler makes vectors of it: nearly always nothing is found.
  int any = 0;
  for (const float value : values) any |= overflows(value);
  if (any == 0) return absl::OkStatus();
  const auto it = std::find_if(values.begin(), values.end(), overflows);
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", tensor, ": element ", IndexText(shape, first + (it - values.begin())),
                   " = ", *it, " is beyond the range of ", DTypeName(dtype)));
}

void EncodeElements(absl::Span<const float> values, DType dtype, std::string* out) {
  const size_t begin = out->size();
  out->resize(begin + values.size() * DTypeBytes(dtype));
  char* p = out->data() + begin;
  if (dtype == DType::kF32) {
    if (!values.empty()) std::memcpy(p, values.data(), values.size() * sizeof(float));
    return;
  }
  for (const float value : values) {
    const uint16_t bits = dtype == DType::kF16 ? FloatToHalf(value) : FloatToBFloat16(value);
    std::memcpy(p, &bits, sizeof bits);
    p += sizeof bits;
  }
}

std::vector<int64_t> TensorView::shape() const {
  std::vector<int64_t> shape = stored.shape;
  if (!rows.empty()) shape[0] = static_cast<int64_t>(rows.size());
  if (!cols.empty()) shape[1] = static_cast<int64_t>(cols.size());
  return shape;
}

size_t TensorView::stored_bytes() const {
  double share = 1;
  if (!rows.empty())
    share *= static_cast<double>(rows.size()) / static_cast<double>(stored.shape[0]);
  if (!cols.empty())
    share *= static_cast<double>(cols.size()) / static_cast<double>(stored.shape[1]);
  return static_cast<size_t>(share * static_cast<double>(stored.bytes.size()));
}

void ReadView(const TensorView& view, absl::Span<float> out) {
  const std::vector<int64_t> shape = view.shape();
  const int64_t rows = shape.empty() ? 1 : shape[0];
  int64_t width = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) width *= shape[axis];
  PREGATE_CHECK(static_cast<int64_t>(out.size()) == rows * width, "tensor ", view.stored.name);
  ReadViewRows(view, 0, width, out);
}

void ReadViewRows(const TensorView& view, int64_t first, int64_t width, absl::Span<float> out) {
  if (view.rows.empty() && view.cols.empty()) {
    return DecodeElements(view.stored, first * width, out);
  }
  const std::vector<int64_t> shape = view.shape();
  PREGATE_CHECK(shape.size() <= 2 && width == (shape.size() == 2 ? shape[1] : 1), "tensor ",
                view.stored.name);
  const int64_t stored_width = shape.size() == 2 ? view.stored.shape[1] : 1;
  const int64_t num_rows = width == 0 ? 0 : static_cast<int64_t>(out.size()) / width;
  PREGATE_CHECK(first + num_rows <= shape[0], "tensor ", view.stored.name, " row ", first);
  std::vector<float> row(view.cols.empty() ? 0 : stored_width);
  for (int64_t r = 0; r < num_rows; ++r) {
    const int64_t source = view.rows.empty() ? first + r : view.rows[first + r];
    const absl::Span<float> target = out.subspan(r * width, width);
    if (view.cols.empty()) {
      DecodeElements(view.stored, source * stored_width, target);
      continue;
    }
    DecodeElements(view.stored, source * stored_width, absl::MakeSpan(row));
    for (size_t c = 0; c < view.cols.size(); ++c) target[c] = row[view.cols[c]];
  }
}

namespace {

// Without an early end, so that the compiler makes vectors of it.
bool HasNan(absl::Span<const uint16_t> bf16) {
  uint16_t sums = 0;  // of which the top bit is set by magnitudes above infinity's, 0x7F80
  for (const uint16_t bits : bf16) sums |= static_cast<uint16_t>((bits & 0x7FFF) + 0x7F);
  return (sums & 0x8000) != 0;
}

// Of T, which is how the tensor's elements are stored.
template <class T>
std::optional<absl::Span<const T>> InPlace(const StoredTensor& stored, int64_t first, int64_t n) {
  PREGATE_CHECK((first + n) * sizeof(T) <= stored.bytes.size(), "tensor ", stored.name);
  const char* at = stored.bytes.data() + first * sizeof(T);
  if (reinterpret_cast<uintptr_t>(at) % alignof(T) != 0) return std::nullopt;
  return absl::MakeConstSpan(reinterpret_cast<const T*>(at), n);
}

}  // namespace

std::optional<WeightRows> StoredElements(const TensorView& view, DType dtype, int64_t first,
                                         int64_t n) {
  if (view.stored.type != StoredTypeOf(dtype) || !view.rows.empty() || !view.cols.empty()) {
    return std::nullopt;
  }
  switch (dtype) {
    case DType::kF32:
      return InPlace<float>(view.stored, first, n);
    case DType::kBF16: {
      const auto elements = InPlace<uint16_t>(view.stored, first, n);
      if (!elements || HasNan(*elements)) return std::nullopt;
      return *elements;
    }
    case DType::kF16:
      break;
  }
  return std::nullopt;
}

}  // namespace pregate
