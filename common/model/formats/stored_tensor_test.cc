#include "common/model/formats/stored_tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StoredTensorTest, HalvesAndBFloatsSurviveTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float wide = HalfToFloat(half);
    if (!std::isnan(wide)) {
      ASSERT_EQ(FloatToHalf(wide), half);
    } else {
      ASSERT_TRUE(std::isnan(HalfToFloat(FloatToHalf(wide))));
    }
    const float wide_b = BFloat16ToFloat(half);
    if (!std::isnan(wide_b)) {
      ASSERT_EQ(FloatToBFloat16(wide_b), half);
    } else {
      ASSERT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(wide_b))));
    }
  }
}

TEST(StoredTensorTest, RoundsToNearestEven) {
  EXPECT_EQ(HalfToFloat(FloatToHalf(1 + 0x1p-11f)), 1.0f);             // tie: to even
  EXPECT_EQ(HalfToFloat(FloatToHalf(1 + 3 * 0x1p-11f)), 1 + 0x1p-9f);  // tie: to even
  EXPECT_EQ(HalfToFloat(FloatToHalf(1 + 0x1.8p-11f)), 1 + 0x1p-10f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(0x1p-25f)), 0.0f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(0x1.8p-25f)), 0x1p-24f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(65519.0f)), 65504.0f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(65520.0f)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(BFloat16ToFloat(FloatToBFloat16(1 + 0x1p-8f)), 1.0f);
  EXPECT_EQ(BFloat16ToFloat(FloatToBFloat16(1 + 3 * 0x1p-8f)), 1 + 0x1p-6f);
  EXPECT_EQ(BFloat16ToFloat(FloatToBFloat16(-3.40282347e38f)),
            -std::numeric_limits<float>::infinity());
}

std::string HalfBytes(float value) {
  const uint16_t bits = FloatToHalf(value);
  return {static_cast<char>(bits & 0xFF), static_cast<char>(bits >> 8)};
}

std::vector<float> DecodeBlock(StoredType type, const std::string& bytes) {
  const StoredTensor tensor{.name = "t", .type = type, .shape = {1, 32}, .bytes = bytes};
  std::vector<float> out(32);
  DecodeElements(tensor, 0, absl::MakeSpan(out));
  return out;
}

// The judge is the conversion itself.
TEST(StoredTensorTest, NamesFiniteValuesThatWouldBecomeInfinite) {
  const float largest_f16 = 65519.996f, largest_bf16 = std::bit_cast<float>(0x7F7F7FFFu);
  for (const float value : {0.f, 65504.f, 65519.f, largest_f16, 65520.f, 1e5f, largest_bf16,
                            std::nextafter(largest_bf16, INFINITY), 3.4028235e38f}) {
    for (const float x : {value, -value}) {
      const float values[] = {0, 1, 2, 3, x, 5};
      const auto fits = [&](DType dtype) { return CheckFits("w", {2, 3}, values, dtype); };
      EXPECT_TRUE(fits(DType::kF32).ok());
      EXPECT_EQ(fits(DType::kF16).ok(), std::isfinite(HalfToFloat(FloatToHalf(x)))) << x;
      EXPECT_EQ(fits(DType::kBF16).ok(), std::isfinite(BFloat16ToFloat(FloatToBFloat16(x)))) << x;
    }
  }
  const float values[] = {0, 1, 2, 3, 1e5f, 5};
  EXPECT_EQ(CheckFits("w", {2, 3}, values, DType::kF16).message(),
            "tensor w: element [1,1] = 100000 is beyond the range of f16");
  const float infinite[] = {INFINITY, -INFINITY, NAN};  // as they were
  EXPECT_TRUE(CheckFits("w", {3}, infinite, DType::kF16).ok());
}

TEST(StoredTensorTest, DecodesQ8Blocks) {
  std::string block = HalfBytes(0.5f);
  for (int j = 0; j < 32; ++j) block.push_back(static_cast<char>(j - 16));
  const std::vector<float> values = DecodeBlock(StoredType::kQ8_0, block);
  for (int j = 0; j < 32; ++j) EXPECT_EQ(values[j], 0.5f * (j - 16));
}

TEST(StoredTensorTest, DecodesQ4BlocksLowNibblesFirst) {
  std::string nibbles;
  for (int j = 0; j < 16; ++j) nibbles.push_back(static_cast<char>(j | ((15 - j) << 4)));
  const std::vector<float> symmetric = DecodeBlock(StoredType::kQ4_0, HalfBytes(2) + nibbles);
  const std::vector<float> affine =
      DecodeBlock(StoredType::kQ4_1, HalfBytes(2) + HalfBytes(-1) + nibbles);
  for (int j = 0; j < 16; ++j) {
    EXPECT_EQ(symmetric[j], 2.0f * (j - 8));
    EXPECT_EQ(symmetric[j + 16], 2.0f * (7 - j));
    EXPECT_EQ(affine[j], 2.0f * j - 1);
    EXPECT_EQ(affine[j + 16], 2.0f * (15 - j) - 1);
  }
}

TEST(StoredTensorTest, DecodesFromAnElementOn) {
  const std::vector<float> values = {1, 2, 3, 4};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::string bytes;
    EncodeElements(values, dtype, &bytes);
    const StoredTensor tensor{.type = StoredTypeOf(dtype), .shape = {2, 2}, .bytes = bytes};
    std::vector<float> out(2);
    DecodeElements(tensor, 2, absl::MakeSpan(out));
    EXPECT_THAT(out, ElementsAre(3, 4)) << DTypeName(dtype);
  }
}

// Of random bits, chosen rows and columns, any address.
TEST(StoredTensorTest, ElementsInPlaceAreTheBitsOfDecodingAndRounding) {
  constexpr int64_t kRows = 3, kWidth = 5, kElements = kRows * kWidth;
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const DType dtypes[] = {DType::kF32, DType::kF16, DType::kBF16};
  int64_t num_in_place[2] = {0, 0};  // of f32, of bf16
  for (int trial = 0; trial < 4000; ++trial) {
    const DType stored = dtypes[random() % 3], dtype = dtypes[random() % 3];
    std::vector<char> memory(kElements * sizeof(float) + 4);
    for (char& byte : memory) byte = static_cast<char>(random());
    const size_t offset = random() % 4;
    TensorView view{.stored = {.name = "t",
                               .type = StoredTypeOf(stored),
                               .shape = {kRows, kWidth},
                               .bytes = {memory.data() + offset, kElements * DTypeBytes(stored)}}};
    if (random() % 8 == 0) view.rows = {2, 0};
    if (random() % 8 == 0) view.cols = {1};
    const auto first = static_cast<int64_t>(random() % kElements);
    const auto n = static_cast<int64_t>(random() % (kElements - first + 1));
    const auto in_place = StoredElements(view, dtype, first, n);
    std::vector<float> values(n);
    DecodeElements(view.stored, first, absl::MakeSpan(values));
    const bool whole = view.rows.empty() && view.cols.empty();
    const bool aligned = offset % DTypeBytes(stored) == 0;
    const bool has_nan =
        std::any_of(values.begin(), values.end(), [](float x) { return std::isnan(x); });
    EXPECT_EQ(in_place.has_value(), stored == dtype && whole && aligned && dtype != DType::kF16 &&
                                        !(dtype == DType::kBF16 && has_nan));
    if (!in_place) continue;
    std::string rounded;
    EncodeElements(values, dtype, &rounded);
    const std::string found = std::visit(
        [](auto span) {
          return std::string(reinterpret_cast<const char*>(span.data()),
                             span.size() * sizeof(*span.data()));
        },
        *in_place);
    EXPECT_EQ(found, rounded);
    ++num_in_place[dtype == DType::kBF16];
  }
  EXPECT_GT(num_in_place[0], 10);
  EXPECT_GT(num_in_place[1], 10);
}

TEST(StoredTensorTest, RefusesImpossibleShapes) {
  EXPECT_EQ(*CheckedBytes(StoredType::kF16, {3, 5}, "t"), 30);
  EXPECT_EQ(*CheckedBytes(StoredType::kQ4_1, {3, 64}, "t"), 3 * 2 * 20);
  EXPECT_EQ(*CheckedBytes(StoredType::kF32, {}, "t"), 4);
  EXPECT_EQ(*CheckedBytes(StoredType::kF32, {0, 7}, "t"), 0);
  const auto refusal = [](StoredType type, std::vector<int64_t> shape) {
    return std::string(CheckedBytes(type, shape, "file: tensor t").status().message());
  };
  EXPECT_THAT(refusal(StoredType::kF32, {int64_t{1} << 62, 4}), HasSubstr("overflows"));
  EXPECT_THAT(refusal(StoredType::kF32, {int64_t{1} << 62}), HasSubstr("overflows"));
  EXPECT_THAT(refusal(StoredType::kF32, {INT64_MAX, 2, 0}), HasSubstr("overflows"));
  EXPECT_THAT(refusal(StoredType::kF32, {-1, 4}), HasSubstr("negative"));
  EXPECT_THAT(refusal(StoredType::kQ8_0, {4, 33}), HasSubstr("blocks"));
  EXPECT_THAT(refusal(StoredType::kF32, {1, 1, 1, 1, 1}), HasSubstr("file: tensor t"));
}

}  // namespace
}  // namespace pregate
