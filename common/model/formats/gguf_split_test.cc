#include <filesystem>

#include "common/model/formats/gguf.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class GgufSplitTest : public ::testing::Test {
 protected:
  // What gguf-split writes: U16 and I32.
  static GgufBuilder& Split(GgufBuilder& builder, uint16_t number, uint16_t count,
                            uint32_t num_tensors) {
    const auto raw = [](const auto& value) {
      return std::string_view(reinterpret_cast<const char*>(&value), sizeof value);
    };
    return builder.Raw("split.no", 2, raw(number))
        .Raw("split.count", 2, raw(count))
        .Raw("split.tensors.count", 5, raw(num_tensors));
  }
  // A part with one tensor, whose bytes are all `number`.
  static GgufBuilder Part(uint16_t number, uint16_t count = 3, uint32_t num_tensors = 3) {
    GgufBuilder builder;
    Split(builder, number, count, num_tensors);
    if (number == 0) builder.Str("general.architecture", "llama").U32("llama.block_count", 7);
    return builder.Tensor("w" + std::to_string(number), 0, {2}, std::string(8, number));
  }
  std::string Path(int number, int count = 3) const {
    char name[64];
    std::snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", number, count);
    return dir_.path(name);
  }
  void WriteParts() {
    for (int i = 0; i < 3; ++i) WriteFile(Path(i + 1), Part(i).Build());
  }
  static std::string Refusal(const std::string& path) {
    const auto model = GgufFile::OpenModel(path);
    return model.ok() ? "accepted" : std::string(model.status().message());
  }
  // With another part in the second's place.
  std::string RefusalOf(const GgufBuilder& second) {
    WriteParts();
    WriteFile(Path(2), second.Build());
    return Refusal(Path(1));
  }

  TempDir dir_;
};

TEST_F(GgufSplitTest, ReadsTheTensorsOfAllParts) {
  WriteParts();
  std::shared_ptr<const GgufFile> model;
  {
    const auto opened = GgufFile::OpenModel(Path(1));
    ASSERT_TRUE(opened.ok()) << opened.status();
    model = *opened;
  }
  for (int i = 0; i < 3; ++i) std::filesystem::remove(Path(i + 1));  // they stay mapped
  EXPECT_EQ(*model->Int("llama.block_count", 0, 9), 7);
  ASSERT_EQ(model->tensors().size(), 3);
  for (int i = 0; i < 3; ++i) {
    const StoredTensor& tensor = model->tensors().at("w" + std::to_string(i));
    EXPECT_EQ(tensor.bytes, std::string(8, static_cast<char>(i)));
    EXPECT_EQ(tensor.file, Path(i + 1));
  }
}

TEST_F(GgufSplitTest, ReadsARelativePath) {
  WriteParts();
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir_.path());
  EXPECT_EQ(Refusal("m-00001-of-00003.gguf"), "accepted");
  std::filesystem::current_path(before);
}

TEST_F(GgufSplitTest, AWholeFileMayHaveAnyName) {
  const std::string path = dir_.path("m-00002-of-00009.gguf");
  GgufBuilder once;
  for (const GgufBuilder& file : {GgufBuilder(), Split(once, 0, 1, 5)}) {
    WriteFile(path, file.Build());
    EXPECT_EQ(Refusal(path), "accepted");
  }
}

TEST_F(GgufSplitTest, NamesThePartsThatAreMissing) {
  WriteParts();
  std::filesystem::remove(Path(2));
  EXPECT_THAT(Refusal(Path(1)),
              AllOf(HasSubstr(Path(1)), HasSubstr("names m-00002-of-00003.gguf: 1 of 2")));
  std::filesystem::remove(Path(3));
  EXPECT_THAT(Refusal(Path(1)), HasSubstr("m-00002-of-00003.gguf, m-00003-of-00003.gguf: 2 of 2"));
}

TEST_F(GgufSplitTest, NamesTheFileToGive) {
  WriteParts();
  EXPECT_THAT(Refusal(Path(3)), AllOf(HasSubstr(Path(3)), HasSubstr("part 3 of 3"),
                                      HasSubstr("give the first, m-00001-of-00003.gguf")));
  for (const int number : {0, 2}) {
    const std::string path = dir_.path("other.gguf");
    WriteFile(path, Part(number).Build());
    EXPECT_THAT(Refusal(path), AllOf(HasSubstr(path), HasSubstr("does not end in -0000"),
                                     HasSubstr("-of-00003.gguf")));
  }
  const std::string renamed = Path(1, 4);
  WriteFile(renamed, Part(0).Build());
  EXPECT_THAT(Refusal(renamed), HasSubstr("does not end in -00001-of-00003.gguf"));
}

TEST_F(GgufSplitTest, RefusesPartsThatContradict) {
  EXPECT_EQ(RefusalOf(Part(1)), "accepted");
  EXPECT_THAT(RefusalOf(Part(2)), AllOf(HasSubstr(Path(2)), HasSubstr("split.no = 2"),
                                        HasSubstr("its name ask for 1 and 3")));
  EXPECT_THAT(RefusalOf(Part(1, 4)), AllOf(HasSubstr(Path(2)), HasSubstr("split.count = 4")));
  EXPECT_THAT(RefusalOf(GgufBuilder()), AllOf(HasSubstr(Path(2)), HasSubstr("split.count = 1")));
  EXPECT_THAT(RefusalOf(Part(1, 3, 4)), AllOf(HasSubstr(Path(2)), HasSubstr("split.tensors.count"),
                                              HasSubstr("not as in " + Path(1))));
  EXPECT_THAT(RefusalOf(Part(1).U32("llama.block_count", 8)),
              AllOf(HasSubstr(Path(2)), HasSubstr("llama.block_count at byte")));
  EXPECT_EQ(RefusalOf(Part(1).U32("llama.block_count", 7)), "accepted");
  EXPECT_THAT(RefusalOf(Part(1).F32("llama.rope.freq_base", 1)), HasSubstr("llama.rope.freq_base"));
  EXPECT_EQ(RefusalOf(Part(1).Str("general.name", "part two")), "accepted");
}

TEST_F(GgufSplitTest, RefusesWrongNumbersOfTensors) {
  EXPECT_THAT(RefusalOf(Part(1).Tensor("w9", 0, {1}, "1234")),
              AllOf(HasSubstr(Path(3)), HasSubstr("holds 4 tensors"),
                    HasSubstr("more than split.tensors.count = 3")));
  GgufBuilder empty;
  EXPECT_THAT(
      RefusalOf(Split(empty, 1, 3, 3)),
      AllOf(HasSubstr(Path(1)), HasSubstr("split.tensors.count = 3, but the 3 parts hold 2")));
  GgufBuilder twice;
  EXPECT_THAT(RefusalOf(Split(twice, 1, 3, 3).Tensor("w0", 0, {1}, "1234")),
              AllOf(HasSubstr(Path(2) + ": tensor w0 at byte"), HasSubstr("also in " + Path(1))));
}

TEST_F(GgufSplitTest, RefusesAbsurdCounts) {
  const std::string path = dir_.path("m.gguf");
  const auto refusal = [&](const GgufBuilder& file) {
    WriteFile(path, file.Build());
    return Refusal(path);
  };
  EXPECT_THAT(refusal(GgufBuilder().U32("split.count", 1 << 30)),
              AllOf(HasSubstr("key split.count at byte"), HasSubstr("[0, 1024]")));
  EXPECT_THAT(refusal(GgufBuilder().U32("split.no", 3).U32("split.count", 3)),
              HasSubstr("split.no = 3 is not below split.count = 3"));
  EXPECT_THAT(refusal(GgufBuilder().U32("split.no", 1)), HasSubstr("split.count = 1"));
  WriteFile(Path(1), GgufBuilder().U32("split.count", 3).Build());
  EXPECT_THAT(Refusal(Path(1)), HasSubstr("missing key split.tensors.count"));
  WriteFile(Path(1), Part(0, 3, 0xFFFFFFFF).Build());
  EXPECT_THAT(Refusal(Path(1)), HasSubstr("split.tensors.count at byte"));
}

}  // namespace
}  // namespace pregate
