#include "common/model/formats/stored_type.h"

#include <bit>
#include <cstring>
#include <random>

#include "common/model/formats/stored_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<StoredType> BlockTypes() {
  std::vector<StoredType> types;
  for (auto i = static_cast<int>(StoredType::kQ4_0); i < static_cast<int>(StoredType::kOther); ++i)
    types.push_back(static_cast<StoredType>(i));
  return types;
}

std::vector<float> DecodeOne(StoredType type, const char* block) {
  std::vector<float> out(BlockLayoutOf(type).elements);
  FormatOf(type).decode(block, 1, out.data());
  return out;
}

// Byte i is (151 i + 43) mod 256, but the scale 1 and the minimum's 0.5. Values are those of the
// Python package `gguf`: elements 0, 1, the last of the first half, the first of the second and the
// last, and the sum of all, element i times i + 1, which is exact.
struct Vector {
  StoredType type;
  std::vector<int> scales;  // where the f16 are
  std::vector<float> some;
  double sum;
};

std::string PatternBlock(const Vector& vector) {
  std::string block(BlockLayoutOf(vector.type).bytes, '\0');
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i * 151 + 43);
  uint16_t scale = FloatToHalf(1);
  for (const int at : vector.scales) {
    std::memcpy(&block[at], &scale, sizeof scale);
    scale = FloatToHalf(0.5);
  }
  const float one = 1;
  if (vector.type == StoredType::kQ8_K) std::memcpy(block.data(), &one, sizeof one);
  if (vector.type == StoredType::kMXFP4) block[0] = static_cast<char>(128);
  return block;
}

const Vector kVectors[] = {
    {StoredType::kQ4_0, {0}, {1, -8, -6, -3, -5}, -577},
    {StoredType::kQ4_1, {0, 2}, {7.5, 14.5, 0.5, 8.5, 6.5}, 3844},
    {StoredType::kQ5_0, {0}, {5, -4, 14, 11, -8}, -195},
    {StoredType::kQ5_1, {0, 2}, {19.5, 26.5, 12.5, 30.5, 11.5}, 8266},
    {StoredType::kQ8_0, {0}, {89, -16, 50, -55, -94}, -3088},
    {StoredType::kQ2_K, {80, 82}, {32, 21, 34, 2, 12}, 279249},
    {StoredType::kQ3_K, {108}, {81, -54, -36, 20, 8}, 71825},
    {StoredType::kQ4_K, {0, 2}, {59.5, -3.5, 124, 491.5, 144}, 6568112},
    {StoredType::kQ5_K, {0, 2}, {171.5, -3.5, 100, 1243.5, 424}, 14134192},
    {StoredType::kQ6_K, {208}, {2889, 214, -2436, 945, 1156}, 1399672},
    {StoredType::kQ8_K, {}, {-121, 30, 112, 7, -16}, -1408},
    {StoredType::kIQ4_NL, {0}, {13, -127, -83, -35, -65}, -7514},
    {StoredType::kIQ4_XS, {0}, {585, -225, 1905, 1755, 1060}, -2975373},
    {StoredType::kMXFP4, {}, {2, -1, -3, -4, -1}, -23},
};

TEST(StoredTypeTest, DecodesThePackagesValues) {
  std::vector<StoredType> tested;
  for (const Vector& vector : kVectors) {
    SCOPED_TRACE(StoredTypeName(vector.type));
    const std::vector<float> out = DecodeOne(vector.type, PatternBlock(vector).data());
    const size_t half = out.size() / 2;
    EXPECT_THAT((std::vector{out[0], out[1], out[half - 1], out[half], out.back()}),
                ElementsAreArray(vector.some));
    double sum = 0;
    for (size_t i = 0; i < out.size(); ++i) sum += static_cast<double>(i + 1) * out[i];
    EXPECT_EQ(sum, vector.sum);
    tested.push_back(vector.type);
  }
  EXPECT_EQ(tested, BlockTypes());
}

TEST(StoredTypeTest, DecodesManyBlocksAtAnyAddress) {
  for (const Vector& vector : kVectors) {
    SCOPED_TRACE(StoredTypeName(vector.type));
    const std::string block = PatternBlock(vector);
    const std::vector<float> one = DecodeOne(vector.type, block.data());
    const std::string bytes = "x" + block + block + block;
    std::vector<float> out(3 * one.size());
    FormatOf(vector.type).decode(bytes.data() + 1, 3, out.data());
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], one[i % one.size()]) << i;
  }
}

// Whatever a file holds: infinite scales and NaN give values; who computes with them finds them.
TEST(StoredTypeTest, DecodesAnyBytes) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (const StoredType type : BlockTypes()) {
    for (int round = 0; round < 200; ++round) {
      std::string block(BlockLayoutOf(type).bytes, '\xFF');
      if (round > 0)
        for (char& byte : block) byte = static_cast<char>(random());
      DecodeOne(type, block.data());
    }
  }
}

TEST(StoredTypeTest, ViewsSelectRowsAndColumnsOfEveryType) {
  constexpr int64_t kRows = 5;
  for (const Vector& vector : kVectors) {
    SCOPED_TRACE(StoredTypeName(vector.type));
    std::string bytes;
    for (int64_t i = 0; i < 2 * kRows; ++i) {
      bytes += PatternBlock(vector);
      bytes.back() = static_cast<char>(i);  // blocks that differ
    }
    const int64_t width = 2 * BlockLayoutOf(vector.type).elements;
    TensorView view{.stored = {.type = vector.type, .shape = {kRows, width}, .bytes = bytes}};
    std::vector<float> whole(kRows * width);
    ReadView(view, absl::MakeSpan(whole));
    view.rows = {4, 0, 0, 3};
    for (const bool all_columns : {true, false}) {
      view.cols.clear();
      if (!all_columns) view.cols = {static_cast<int32_t>(width) - 1, 0, 17};
      const int64_t columns = view.shape()[1];
      std::vector<float> out(view.rows.size() * columns);
      ReadView(view, absl::MakeSpan(out));
      for (size_t i = 0; i < out.size(); ++i) {
        const int64_t column = all_columns ? i % columns : view.cols[i % columns];
        ASSERT_EQ(std::bit_cast<uint32_t>(out[i]),
                  std::bit_cast<uint32_t>(whole[view.rows[i / columns] * width + column]));
      }
    }
  }
}

TEST(StoredTypeTest, RowsAreWholeBlocks) {
  for (const StoredType type : BlockTypes()) {
    const auto [elements, bytes] = BlockLayoutOf(type);
    EXPECT_EQ(*CheckedBytes(type, {3, 2 * elements}, "t"), 6 * bytes);
    for (const int64_t width : {1, elements - 1, elements + 1, 3 * elements / 2}) {
      EXPECT_THAT(CheckedBytes(type, {2, width}, "t").status().message(), HasSubstr("blocks"));
    }
  }
}

TEST(StoredTypeTest, NamesAreGgufs) {
  for (uint32_t number = 0; number < 100; ++number) {
    const StoredFormat* format = FindGgufFormat(number);
    if (format == nullptr) continue;
    EXPECT_EQ(format->name, GgufTypeName(number));
  }
  EXPECT_EQ(FindGgufFormat(16), nullptr);
  EXPECT_EQ(GgufTypeName(16), "IQ2_XXS");
  EXPECT_EQ(GgufTypeName(40), "NVFP4");
  EXPECT_EQ(GgufTypeName(0xFFFFFFFF), "number 4294967295");
  EXPECT_EQ(FindGgufFormat(0xFFFFFFFF), nullptr);
  EXPECT_THAT(GgufTypesRead(), HasSubstr("F32, F16, BF16, Q4_0, "));
  EXPECT_THAT(GgufTypesRead(), Not(HasSubstr("I32")));
}

}  // namespace
}  // namespace pregate
