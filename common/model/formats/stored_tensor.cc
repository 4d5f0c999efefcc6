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

const char* StoredTypeName(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBF16:
      return "BF16";
    case StoredType::kI32:
      return "I32";
    case StoredType::kQ8_0:
      return "Q8_0";
    case StoredType::kQ4_0:
      return "Q4_0";
    case StoredType::kQ4_1:
      return "Q4_1";
    case StoredType::kOther:
      return "other";
  }
  return "?";
}

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

BlockLayout BlockLayoutOf(StoredType type) {
  switch (type) {
    case StoredType::kF32:
    case StoredType::kI32:
      return {1, 4};
    case StoredType::kF16:
    case StoredType::kBF16:
      return {1, 2};
    case StoredType::kQ8_0:
      return {32, 2 + 32};
    case StoredType::kQ4_0:
      return {32, 2 + 16};
    case StoredType::kQ4_1:
      return {32, 2 + 2 + 16};
    case StoredType::kOther:
      break;
  }
  return {};
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
  if (type == StoredType::kOther) {
    return absl::UnimplementedError(
        absl::StrCat(Where(), ": element type ", other_type, " is not supported"));
  }
  if (type != StoredType::kI32) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(Where(), ": holds integers (I32)"));
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

float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  const uint32_t mantissa = bits & 0x3FF;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
    return std::copysign(static_cast<float>(mantissa) * 0x1p-24f, std::bit_cast<float>(sign | 1));
  }
  const uint32_t wide = exponent == 0x1F ? 0xFF : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

uint16_t FloatToHalf(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return sign | 0x7E00;   // NaN
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // rounds to infinity
  if (magnitude < 0x38800000) {                       // below 2^-14: a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p24f;
    return sign | static_cast<uint16_t>(std::nearbyint(scaled));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1);
  return sign | static_cast<uint16_t>((rounded - ((127 - 15) << 23)) >> 13);
}

float BFloat16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

namespace {

uint16_t Load16(const char* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Blocks of 32: a scale d, for Q4_1 also a minimum m, then the integers; element j of the first
// half is in the low four bits of byte j, its partner j + 16 in the high ones.
void DecodeQ8Block(const char* block, float* out) {
  const float d = HalfToFloat(Load16(block));
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * d;
}

void DecodeQ4Block(const char* block, bool has_minimum, float* out) {
  const float d = HalfToFloat(Load16(block));
  const float m = has_minimum ? HalfToFloat(Load16(block + 2)) : 0;
  const auto* nibbles = reinterpret_cast<const uint8_t*>(block + (has_minimum ? 4 : 2));
  const int zero = has_minimum ? 0 : 8;
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((nibbles[j] & 15) - zero) * d + m;
    out[j + 16] = static_cast<float>((nibbles[j] >> 4) - zero) * d + m;
  }
}

}  // namespace

void DecodeElements(const StoredTensor& tensor, int64_t first, absl::Span<float> out) {
  const BlockLayout block = BlockLayoutOf(tensor.type);
  PREGATE_CHECK(first % block.elements == 0 && out.size() % block.elements == 0, "tensor ",
                tensor.name);
  const uint64_t begin = static_cast<uint64_t>(first / block.elements) * block.bytes;
  const uint64_t length = out.size() / block.elements * block.bytes;
  PREGATE_CHECK(begin + length <= tensor.bytes.size(), "tensor ", tensor.name);
  const char* p = tensor.bytes.data() + begin;
  switch (tensor.type) {
    case StoredType::kF32:
      if (!out.empty()) std::memcpy(out.data(), p, length);
      return;
    case StoredType::kF16:
      for (float& x : out) x = HalfToFloat(Load16(p)), p += 2;
      return;
    case StoredType::kBF16:
      for (float& x : out) x = BFloat16ToFloat(Load16(p)), p += 2;
      return;
    case StoredType::kQ8_0:
      for (size_t i = 0; i < out.size(); i += 32, p += block.bytes) DecodeQ8Block(p, &out[i]);
      return;
    case StoredType::kQ4_0:
      for (size_t i = 0; i < out.size(); i += 32, p += block.bytes)
        DecodeQ4Block(p, false, &out[i]);
      return;
    case StoredType::kQ4_1:
      for (size_t i = 0; i < out.size(); i += 32, p += block.bytes) DecodeQ4Block(p, true, &out[i]);
      return;
    case StoredType::kI32:
    case StoredType::kOther:
      break;
  }
  PREGATE_CHECK(false, "tensor ", tensor.name, " holds no floats");
}

namespace {

// The magnitudes, as bits, of finite values that round to infinity: [first, infinity).
constexpr uint32_t kInfinityBits = 0x7F800000;
uint32_t FirstOverflowingBits(DType dtype) {
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
                       absl::Span<const float> values, DType dtype) {
  const uint32_t first = FirstOverflowingBits(dtype);
  if (first == kInfinityBits) return absl::OkStatus();
  const auto overflows = [first](float value) {
    return (std::bit_cast<uint32_t>(value) & 0x7FFFFFFF) - first < kInfinityBits - first;
  };
  // Without an early end, so that the compiler makes vectors of it: nearly always nothing is found.
  bool any = false;
  for (const float value : values) any |= overflows(value);
  if (!any) return absl::OkStatus();
  const auto it = std::find_if(values.begin(), values.end(), overflows);
  return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor, ": element ",
                                                 IndexText(shape, it - values.begin()), " = ", *it,
                                                 " is beyond the range of ", DTypeName(dtype)));
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
  if (view.rows.empty() && view.cols.empty()) {
    PREGATE_CHECK(static_cast<int64_t>(out.size()) == view.stored.num_elements(), "tensor ",
                  view.stored.name);
    DecodeElements(view.stored, 0, out);
    return;
  }
  const std::vector<int64_t> shape = view.shape();
  const int64_t width = static_cast<int64_t>(out.size()) / shape[0];
  PREGATE_CHECK(shape.size() <= 2 && width == (shape.size() == 2 ? shape[1] : 1), "tensor ",
                view.stored.name);
  const int64_t stored_width = shape.size() == 2 ? view.stored.shape[1] : 1;
  std::vector<float> row(view.cols.empty() ? 0 : stored_width);
  for (int64_t r = 0; r < shape[0]; ++r) {
    const int64_t source = view.rows.empty() ? r : view.rows[r];
    const absl::Span<float> target = out.subspan(r * width, width);
    if (view.cols.empty()) {
      DecodeElements(view.stored, source * stored_width, target);
      continue;
    }
    DecodeElements(view.stored, source * stored_width, absl::MakeSpan(row));
    for (size_t c = 0; c < view.cols.size(); ++c) target[c] = row[view.cols[c]];
  }
}

}  // namespace pregate
