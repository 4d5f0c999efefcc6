#include "refactor/run_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/model/formats/testing/model_files.h"
#include "refactor/testing/byte_tokenizer.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

// Of a vocabulary of 128, with a tokenizer that has 256 ids.
class AsciiModel final : public Checkpoint {
 public:
  AsciiModel() {
    spec_.vocab_size = 128;
    path_ = "ascii";
    digest_ = "digest";
  }
  std::vector<TensorInfo> Tensors() const override { return {}; }
  bool Has(const std::string&) const override { return false; }
  absl::Status Read(const std::string& name, absl::Span<float>) const override {
    return absl::NotFoundError(name);
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const override {
    return std::make_unique<ByteTokenizer>();
  }
};

class RunInputsTest : public testing::Test {
 protected:
  RunInputsTest() {
    std::filesystem::create_directories(dir_.path("texts"));
    for (const char* name : {"texts/a.txt", "texts/b.txt"}) {
      WriteFile(dir_.path(name), std::string(400, name[6]));  // 'a', 'b'
    }
    options_.corpus_dir = dir_.path("texts");
    options_.corpus.window_tokens = 16;
    options_.corpus.windows_per_domain = 5;
  }

  TempDir dir_;
  AsciiModel dense_;
  RefactorOptions options_;
};

TEST_F(RunInputsTest, CalibratesOnSomeTunesOnAllAndEvaluatesOnTheRest) {
  options_.eval_windows = 2;
  const auto text = ReadRunText(dense_, options_);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->calibration.num_windows(), 10);
  EXPECT_EQ(text->tuning.num_windows(), 2 * (340 / 16));
  EXPECT_EQ(text->held_out.num_windows(), 4);
  options_.eval_windows = 0;
  EXPECT_EQ(ReadRunText(dense_, options_)->held_out.num_windows(), 0);
}

TEST_F(RunInputsTest, ATokenizerOfAnotherVocabularyIsRefusedWithTheDomain) {
  WriteFile(dir_.path("texts/b.txt"), std::string(399, 'x') + "\xC3\xA9");
  EXPECT_THAT(ReadRunText(dense_, options_).status().message(),
              HasSubstr("domain b: the tokenizer of ascii gives id 195, but the model has a "
                        "vocabulary of 128"));
}

TEST_F(RunInputsTest, EachStagesInputsHoldThoseOfTheOneBefore) {
  const auto text = ReadRunText(dense_, options_);
  ASSERT_TRUE(text.ok()) << text.status();
  options_.tune.tokens = 100;
  const nlohmann::json stages[] = {
      CalibrateInputs(dense_, *text, options_), SplitInputs(dense_, *text, options_),
      TuneInputsOf(dense_, *text, options_), EvaluateInputs(dense_, *text, options_)};
  for (int i = 0; i + 1 < 4; ++i) {
    EXPECT_TRUE(CheckInputs("next", stages[i + 1], stages[i]).ok()) << i;
    EXPECT_LT(stages[i].size(), stages[i + 1].size());
  }
  WriteFile(dir_.path("texts/b.txt"), std::string(399, 'x') + "y");
  const auto other = ReadRunText(dense_, options_);
  ASSERT_TRUE(other.ok());
  EXPECT_THAT(
      CheckInputs("work/split.json", stages[1], SplitInputs(dense_, *other, options_)).message(),
      HasSubstr("was made with text"));
}

}  // namespace
}  // namespace pregate
