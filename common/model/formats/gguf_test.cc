#include "common/model/formats/gguf.h"

#include <cstring>
#include <random>

#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class GgufTest : public ::testing::Test {
 protected:
  std::string Refusal(const std::string& bytes) {
    WriteFile(path_, bytes);
    const auto file = GgufFile::Open(path_);
    return file.ok() ? "accepted" : std::string(file.status().message());
  }
  static GgufBuilder Valid() {
    GgufBuilder builder;
    builder.Str("general.architecture", "llama")
        .U32("count", 7)
        .F32("theta", 0.5f)
        .Strings("words", {"a", "", "ccc"});
    builder.Tensor("w", 0, {2, 3}, std::string(24, '\1'))
        .Tensor("q", 8, {32}, std::string(34, '\0'));
    return builder;
  }

  TempDir dir_;
  std::string path_ = dir_.path("x.gguf");
};

TEST_F(GgufTest, ReadsMetadataAndTensors) {
  WriteFile(path_, Valid().Build());
  const auto opened = GgufFile::Open(path_);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const GgufFile& file = **opened;
  EXPECT_EQ(*file.String("general.architecture"), "llama");
  EXPECT_EQ(*file.Int("count", 0, 10), 7);
  EXPECT_EQ(*file.Float("theta"), 0.5);
  EXPECT_THAT(*file.Strings("words"), ElementsAre("a", "", "ccc"));
  EXPECT_EQ(*file.Int("absent", 0, 10, 3), 3);
  EXPECT_THAT(file.tensors().at("w").shape, ElementsAre(3, 2));  // rows first
  EXPECT_EQ(file.tensors().at("q").bytes.size(), 34);
}

TEST_F(GgufTest, NamesKeyAndOffsetOfAWrongValue) {
  WriteFile(path_, Valid().Build());
  const auto opened = GgufFile::Open(path_);
  ASSERT_TRUE(opened.ok());
  EXPECT_THAT((*opened)->Int("count", 0, 5).status().message(),
              AllOf(HasSubstr("key count at byte"), HasSubstr("[0, 5]")));
  EXPECT_THAT((*opened)->String("count").status().message(), HasSubstr("not a string"));
  EXPECT_THAT((*opened)->Int("theta", 0, 5).status().message(), HasSubstr("theta"));
  EXPECT_THAT((*opened)->Float("absent").status().message(), HasSubstr("missing key absent"));
  EXPECT_THAT((*opened)->Ints("words").status().message(), HasSubstr("words"));
}

TEST_F(GgufTest, RefusesEveryTruncation) {
  const std::string whole = Valid().Build();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_THAT(Refusal(whole.substr(0, size)), HasSubstr(path_)) << size;
  }
  EXPECT_EQ(Refusal(whole), "accepted");
}

TEST_F(GgufTest, RefusesOtherVersionsAndBigEndianFiles) {
  EXPECT_EQ(Refusal(GgufBuilder(2).Build()), "accepted");
  for (const uint32_t version : {0u, 1u, 4u}) {
    EXPECT_THAT(Refusal(GgufBuilder(version).Build()), HasSubstr("version"));
  }
  for (const uint32_t version : {0x02000000u, 0x03000000u}) {
    EXPECT_THAT(Refusal(GgufBuilder(version).Build()), HasSubstr("big-endian"));
  }
  EXPECT_THAT(Refusal("FUGG" + std::string(40, '\0')), HasSubstr("no GGUF file"));
}

TEST_F(GgufTest, RefusesAbsurdCountsBeforeAllocating) {
  for (const size_t at : {size_t{8}, size_t{16}}) {  // tensors, metadata keys
    std::string bytes = Valid().Build();
    const uint64_t absurd = uint64_t{1} << 60;
    std::memcpy(&bytes[at], &absurd, sizeof absurd);
    EXPECT_THAT(Refusal(bytes), AllOf(HasSubstr("limit"), HasSubstr("byte 24")));
  }
  const uint64_t huge = uint64_t{1} << 61;
  std::string array(4, '\0');
  array[0] = 5;  // int32
  array.append(reinterpret_cast<const char*>(&huge), sizeof huge);
  EXPECT_THAT(Refusal(GgufBuilder().Raw("k", 9, array).Build()), HasSubstr("key k is an array"));
  EXPECT_THAT(Refusal(GgufBuilder()
                          .Raw("k", 8, std::string_view(reinterpret_cast<const char*>(&huge), 8))
                          .Build()),
              HasSubstr("limit"));
}

TEST_F(GgufTest, RefusesUnknownTypes) {
  EXPECT_THAT(
      Refusal(GgufBuilder().Tensor("blk.0.w", 16, {256}, std::string(66, '\0')).Build()),
      AllOf(HasSubstr("tensor blk.0.w"), HasSubstr("byte"),
            HasSubstr("IQ2_XXS is not supported: give a file whose tensors are F32, F16, ")));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 999, {32}, "").Build()), HasSubstr("number 999"));
  EXPECT_THAT(Refusal(GgufBuilder().Raw("k", 77, "1234").Build()), HasSubstr("unknown type 77"));
  EXPECT_THAT(
      Refusal(GgufBuilder().Raw("k", 9, std::string("\x09\0\0\0\1\0\0\0\0\0\0\0", 12)).Build()),
      HasSubstr("unsupported type 9"));
}

TEST_F(GgufTest, RefusesTensorsThatDoNotFit) {
  const std::string data(64, '\0');
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {17}, data).Build()),
              AllOf(HasSubstr("tensor w at byte"), HasSubstr("truncated")));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {1}, data, int64_t{1} << 50).Build()),
              HasSubstr("lies beyond"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {1}, data, 4).Build()), HasSubstr("aligned"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("a", 0, {16}, data).Tensor("b", 0, {4}, "", 32).Build()),
              AllOf(HasSubstr("tensor b"), HasSubstr("overlaps")));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {uint64_t{1} << 62, 8}, data).Build()),
              HasSubstr("overflows"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {~uint64_t{0}}, data).Build()),
              HasSubstr("tensor w"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 2, {33}, data).Build()), HasSubstr("blocks"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {1, 1, 1, 1, 1}, data).Build()),
              HasSubstr("5 axes"));
  EXPECT_THAT(Refusal(GgufBuilder().Tensor("w", 0, {1}, data).Tensor("w", 0, {1}, data).Build()),
              HasSubstr("occurs twice"));
  EXPECT_THAT(Refusal(GgufBuilder().U32("general.alignment", 0).Build()),
              HasSubstr("general.alignment"));
}

TEST_F(GgufTest, SurvivesRandomDamage) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::string whole = Valid().Build();
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = whole;
    for (int flips = 0; flips < 2; ++flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    WriteFile(path_, bytes);
    const auto file = GgufFile::Open(path_);
    if (!file.ok()) ++refused;
    if (!file.ok()) continue;
    (void)(*file)->Strings("words");
    for (const auto& [name, tensor] : (*file)->tensors()) {
      std::vector<float> out(tensor.num_elements());
      DecodeElements(tensor, 0, absl::MakeSpan(out));
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace pregate
