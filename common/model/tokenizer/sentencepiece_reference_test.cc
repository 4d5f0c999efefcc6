// Ids and texts against the SentencePiece library's, on models that the library trains here, read
// (a) from tokenizer.model and (b) from a GGUF file with the llama vocabulary.
#include "common/model/tokenizer/testing/sentencepiece_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/utf8.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {
namespace {

using Options = std::map<std::string, std::string>;

constexpr size_t kTrainBytes = 60'000;  // of each domain
constexpr int kSlices = 300;

// Without the shared data: words of all lengths and scripts, drawn anew for each run.
std::string BuiltInText(std::mt19937_64* random) {
  static const std::vector<std::string> kParts = {
      "the",   "of",  "river", "stone", "walk", "ing", "ed",    "über", "naïve",
      "слово", "дом", "東京",  "日本",  "😀",    "12",  "2024",  "(",    ")",
      ",",     ".",   "  ",    "\t",    "x_i",  "=",   "\\frac"};
  std::string text;
  for (int i = 0; i < 60000; ++i) {
    text += kParts[(*random)() % kParts.size()];
    if ((*random)() % 3 != 0) text += ' ';
    if ((*random)() % 40 == 0) text += '\n';
    // Characters so rare that a training leaves them out: two bytes of UTF-8, Armenian to Arabic.
    if ((*random)() % 200 == 0) {
      text += static_cast<char>(0xD5 + (*random)() % 4);
      text += static_cast<char>(0x80 + (*random)() % 64);
    }
  }
  return text;
}

std::vector<std::string> Lines(const std::string& text) { return absl::StrSplit(text, '\n'); }

class SentencePieceReferenceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const uint64_t seed = std::random_device()();
    std::cout << "seed " << seed << "\n";
    random_ = new std::mt19937_64(seed);
    texts_ = new std::vector<std::string>();
    const std::string domains = SharedDir().empty() ? "" : SharedDir() + "/data/domains";
    if (std::filesystem::is_directory(domains)) {
      for (const auto& entry : std::filesystem::directory_iterator(domains)) {
        if (entry.path().extension() == ".txt") texts_->push_back(ReadFile(entry.path()));
      }
    }
    if (texts_->empty()) texts_->push_back(BuiltInText(random_));
  }

  static std::string Train(Options options) {
    std::vector<std::string> sentences;
    for (const std::string& text : *texts_) {
      const std::vector<std::string> lines = Lines(text.substr(0, kTrainBytes));
      sentences.insert(sentences.end(), lines.begin(), lines.end());
    }
    options.insert({{"vocab_size", "2000"},
                    {"minloglevel", "2"},
                    {"num_threads", "2"},
                    {"hard_vocab_limit", "false"},
                    {"max_sentence_length", "100000"}});
    return SentencePieceReference::Train(sentences, options);
  }

  // As Llama-2's model was trained.
  static const std::string& LlamaModel() {
    static const std::string model = Train({{"model_type", "bpe"},
                                            {"byte_fallback", "true"},
                                            {"split_digits", "true"},
                                            {"allow_whitespace_only_pieces", "true"},
                                            {"normalization_rule_name", "identity"},
                                            {"remove_extra_whitespaces", "false"}});
    return model;
  }

  // With the library's defaults: NFKC, no bytes.
  static const std::string& UnigramModel() {
    static const std::string model =
        Train({{"model_type", "unigram"}, {"character_coverage", "0.995"}});
    return model;
  }

  static std::unique_ptr<Tokenizer> Make(SentencePieceTokenizerSpec spec) {
    auto tokenizer = MakeSentencePieceTokenizer(std::move(spec));
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *std::move(tokenizer);
  }

  static SentencePieceTokenizerSpec Load(const std::string& model) {
    TempDir dir;
    WriteFile(dir.path("tokenizer.model"), model);
    auto spec = LoadSentencePieceSpec(dir.path());
    EXPECT_TRUE(spec.ok()) << spec.status();
    return *std::move(spec);
  }

  static std::string RandomSlice() {
    const std::string& text = (*texts_)[(*random_)() % texts_->size()];
    const size_t size = size_t{1} << (*random_)() % 15;
    return text.substr((*random_)() % text.size(), size);
  }

  static void Compare(const Tokenizer& ours, const SentencePieceReference& library,
                      std::string_view text) {
    const std::vector<TokenId> ids = ours.Encode(text), expected = library.Encode(text);
    if (ids == expected) {
      ASSERT_EQ(ours.Decode(ids), library.Decode(expected));
      return;
    }
    const auto at = std::mismatch(ids.begin(), ids.end(), expected.begin(), expected.end()).first;
    FAIL() << ids.size() << " ids, the library " << expected.size() << "; they part at "
           << at - ids.begin() << " of \"" << text.substr(0, 200) << "\"";
  }

  // Every `stride`th line from a random one on, and random slices.
  static void CompareAll(const Tokenizer& ours, const SentencePieceReference& library,
                         size_t stride = 1) {
    size_t num_lines = 0;
    for (const std::string& text : *texts_) {
      const std::vector<std::string> lines = Lines(text);
      for (size_t i = (*random_)() % stride; i < lines.size(); i += stride) {
        Compare(ours, library, lines[i]);
        if (HasFatalFailure()) return;
        ++num_lines;
      }
    }
    for (int i = 0; i < kSlices && !HasFatalFailure(); ++i) {
      Compare(ours, library, RandomSlice());
    }
    std::cout << num_lines << " lines, " << kSlices << " slices equal\n";
    EXPECT_GT(num_lines, 100u);
  }

  static std::vector<std::string>* texts_;
  static std::mt19937_64* random_;
};

std::vector<std::string>* SentencePieceReferenceTest::texts_ = nullptr;
std::mt19937_64* SentencePieceReferenceTest::random_ = nullptr;

TEST_F(SentencePieceReferenceTest, EncodesAndDecodesBpeAsTheLibraryDoes) {
  const std::string& model = LlamaModel();
  ASSERT_FALSE(model.empty());
  const auto tokenizer = Make(Load(model));
  EXPECT_EQ(tokenizer->kind(), "SentencePiece BPE");
  CompareAll(*tokenizer, SentencePieceReference(model), /*stride=*/5);
  for (int i = 0; i < kSlices; ++i) {
    const std::string text = ReplaceStrayBytes(RandomSlice());
    if (text.find("▁") != std::string::npos) continue;  // is a space from then on
    ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  }
}

TEST_F(SentencePieceReferenceTest, ReadsTheSameModelFromGguf) {
  const std::string& model = LlamaModel();
  const SentencePieceTokenizerSpec trained = Load(model);
  TempDir dir;
  WriteFile(dir.path("vocab.gguf"), GgufVocabulary(trained).Build());
  const auto file = GgufFile::Open(dir.path("vocab.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto from_gguf = GgufSentencePieceSpec(**file);
  ASSERT_TRUE(from_gguf.ok()) << from_gguf.status();
  EXPECT_EQ(*from_gguf, trained);
  CompareAll(*Make(*from_gguf), SentencePieceReference(model));
}

TEST_F(SentencePieceReferenceTest, WritesAModelThatTheLibraryReads) {
  const std::string& model = LlamaModel();
  TempDir dir;
  ASSERT_TRUE(SaveSentencePieceModel(Load(model), dir.path()).ok());
  const SentencePieceReference first(model), written(ReadFile(dir.path("tokenizer.model")));
  ASSERT_EQ(written.error(), "");
  for (int i = 0; i < kSlices; ++i) {
    const std::string text = RandomSlice();
    ASSERT_EQ(written.Encode(text), first.Encode(text));
  }
}

TEST_F(SentencePieceReferenceTest, EncodesUnigramWithNfkcAsTheLibraryDoes) {
  const std::string& model = UnigramModel();
  ASSERT_FALSE(model.empty());
  const SentencePieceTokenizerSpec spec = Load(model);
  EXPECT_FALSE(spec.model.charsmap.empty());
  EXPECT_TRUE(spec.model.remove_extra_whitespaces);
  const auto tokenizer = Make(spec);
  EXPECT_EQ(tokenizer->kind(), "SentencePiece unigram");
  const SentencePieceReference library(model);
  CompareAll(*tokenizer, library, /*stride=*/5);
  int num_unknown = 0;
  for (const std::string& text : *texts_) {
    const std::vector<TokenId> ids = tokenizer->Encode(text);
    num_unknown += static_cast<int>(std::count(ids.begin(), ids.end(), 0));
  }
  EXPECT_GT(num_unknown,
            0);  // else nothing has shown that runs of unknown characters are one token
}

TEST_F(SentencePieceReferenceTest, EncodesUnigramWithBytesAsTheLibraryDoes) {
  const std::string model = Train({{"model_type", "unigram"},
                                   {"byte_fallback", "true"},
                                   {"character_coverage", "0.995"},
                                   {"normalization_rule_name", "nmt_nfkc_cf"},
                                   {"add_dummy_prefix", "false"}});
  ASSERT_FALSE(model.empty());
  const auto tokenizer = Make(Load(model));
  EXPECT_EQ(tokenizer->leading_spaces(), LeadingSpaces::kDropOfEach);
  CompareAll(*tokenizer, SentencePieceReference(model), /*stride=*/5);
}

// Pieces that reach over words: nothing is cut into words before merging.
TEST_F(SentencePieceReferenceTest, EncodesBpeOverWordsAsTheLibraryDoes) {
  const std::string model = Train({{"model_type", "bpe"},
                                   {"split_by_whitespace", "false"},
                                   {"vocab_size", "1000"},
                                   {"character_coverage", "0.99"}});
  ASSERT_FALSE(model.empty());
  const SentencePieceTokenizerSpec spec = Load(model);
  EXPECT_TRUE(
      std::any_of(spec.model.pieces.begin(), spec.model.pieces.end(), [](const auto& piece) {
        return piece.text.find("▁", 3) != std::string::npos && !piece.text.starts_with("▁▁");
      }));
  const auto tokenizer = Make(spec);
  const SentencePieceReference library(model);
  for (int i = 0; i < kSlices; ++i) {
    const std::string text = RandomSlice();
    ASSERT_EQ(tokenizer->Encode(text), library.Encode(text)) << text;
  }
}

// Pieces declared unused: merges pass through them and fall back.
TEST_F(SentencePieceReferenceTest, TakesUnusedPiecesApartAsTheLibraryDoes) {
  for (const std::string& trained : {LlamaModel(), UnigramModel()}) {
    SentencePieceTokenizerSpec spec = Load(trained);
    int num_unused = 0;
    for (SentencePiece& piece : spec.model.pieces) {
      if (piece.type != PieceType::kNormal || piece.text.size() < 2 || (*random_)() % 4 != 0)
        continue;
      piece.type = PieceType::kUnused;
      ++num_unused;
    }
    ASSERT_GT(num_unused, 20);
    const SentencePieceReference library(SerializeSentencePieceModel(spec.model));
    ASSERT_EQ(library.error(), "");
    const auto tokenizer = Make(spec);
    for (int i = 0; i < kSlices; ++i) {
      const std::string text = RandomSlice();
      ASSERT_EQ(tokenizer->Encode(text), library.Encode(text)) << text;
    }
  }
}

}  // namespace
}  // namespace pregate
