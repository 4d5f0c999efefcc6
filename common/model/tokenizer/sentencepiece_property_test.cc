// Random vocabularies, read by ours and by the SentencePiece library: equal ids, texts and streams.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>
#include <set>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/utf8.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/testing/sentencepiece_reference.h"
#include "common/model/tokenizer/testing/small_sentencepiece.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {
namespace {

using Algorithm = SentencePieceModel::Algorithm;

constexpr int kVocabularies = 400;
constexpr int kTexts = 30;  // of each vocabulary, and as many lists of ids

// What pieces are made of: few, so that merges happen.
const std::vector<std::string> kLetters = {"a", "b", "c", "▁", "é", "中", "😀", "<", "1"};
// What texts have besides: spaces, what NFKC changes, stray bytes, what spells tokens that no text
// becomes.
const std::vector<std::string> kOthers = {
    " ",      " ",       "  ",     "   ",    "\n",     "A",    "ﬁ",     "Ａ",
    "\u3000", "e\u0301", "\u200b", "\uFFFD", "\xFF",   "\xE4", "中",    "\xB8",
    "ж",      "x",       "▁",      "▁▁",     "<0x41>", "<s>",  "<unk>", std::string(1, '\0')};

class SentencePiecePropertyTest : public ::testing::Test {
 protected:
  bool Chance(int percent) { return static_cast<int>(random_() % 100) < percent; }
  size_t UpTo(size_t max) { return random_() % (max + 1); }
  template <typename T>
  const T& Pick(const std::vector<T>& of) {
    return of[random_() % of.size()];
  }

  std::string Word(size_t num_letters) {
    std::string word;
    for (size_t i = 0; i < num_letters; ++i) word += Pick(kLetters);
    return word;
  }

  // Of a kind that the vocabulary has as a whole: many ties, falling, anything, above zero.
  float Score(int kind, size_t index) {
    if (kind == 0) return -static_cast<float>(random_() % 3);
    if (kind == 1) return -static_cast<float>(index);
    const float any = static_cast<float>(random_() % 100000) / 3333.0f;
    return kind == 2 ? -any : any - 15;
  }

  PieceType TypeOfWord(int percent_unused, int percent_user_defined) {
    if (Chance(percent_user_defined)) return PieceType::kUserDefined;
    return Chance(percent_unused) ? PieceType::kUnused : PieceType::kNormal;
  }

  // Names of control and unknown pieces are no words: the library mixes up pieces of one text.
  void AddWords(SentencePieceModel* model) {
    std::set<std::string> used = {""};
    const int score_kind = static_cast<int>(random_() % 4);
    const int unused = Chance(40) ? 20 : 0, user_defined = Chance(70) ? 10 : 0;
    const size_t num_words = 1 + UpTo(60);
    const auto add = [&](const std::string& text, PieceType type) {
      if (!used.insert(text).second) return;
      model->pieces.push_back({text, Score(score_kind, used.size()), type});
    };
    for (const std::string& letter : kLetters) {
      if (Chance(80)) add(letter, TypeOfWord(unused / 4, user_defined / 2));
    }
    for (size_t i = 0; i < num_words; ++i) add(Word(1 + UpTo(4)), TypeOfWord(unused, user_defined));
    // A piece grows of another one, as trained ones do.
    for (size_t i = 0; i < num_words; ++i) {
      const SentencePiece& base = Pick(model->pieces);
      if (base.type == PieceType::kControl || base.type == PieceType::kUnknown) continue;
      add(base.text + Pick(kLetters), TypeOfWord(unused, user_defined));
    }
    if (user_defined > 0 && Chance(30)) {
      for (const char* text : {" ", " a", "b c", "a ", "▁▁▁", "\n", "<|x|>"}) {
        if (Chance(40)) add(text, PieceType::kUserDefined);
      }
    }
    add("zzz", PieceType::kNormal);  // the library wants one
  }

  SentencePieceModel RandomModel() {
    SentencePieceModel model;
    model.algorithm = Chance(50) ? Algorithm::kBpe : Algorithm::kUnigram;
    model.byte_fallback = Chance(50);
    model.add_dummy_prefix = Chance(60);
    model.remove_extra_whitespaces = Chance(50);
    if (Chance(30)) model.charsmap = charsmap_;
    if (Chance(20)) model.unknown_text = Chance(30) ? "" : Chance(50) ? "▁?" : " u";
    model.pieces = {{"<unk>", 0, PieceType::kUnknown},
                    {"<s>", 0, PieceType::kControl},
                    {"</s>", 0, PieceType::kControl}};
    AddWords(&model);
    if (model.byte_fallback) {
      const auto& small = SmallSentencePiece().model.pieces;
      model.pieces.insert(model.pieces.end(), small.begin() + kFirstBytePieceId,
                          small.begin() + kFirstTextPieceId);
    }
    if (Chance(50)) std::shuffle(model.pieces.begin(), model.pieces.end(), random_);
    return model;
  }

  std::string RandomText(const SentencePieceModel& model) {
    std::string text;
    for (size_t n = UpTo(25); n > 0; --n) {
      const int kind = static_cast<int>(random_() % 4);
      text += kind == 0 ? Pick(kOthers) : kind == 1 ? Pick(model.pieces).text : Pick(kLetters);
    }
    return text;
  }

  std::vector<TokenId> RandomIds(const SentencePieceModel& model) {
    std::vector<TokenId> rare;  // these matter more than their share of the vocabulary
    for (size_t id = 0; id < model.pieces.size(); ++id) {
      const PieceType type = model.pieces[id].type;
      const bool is_spaced = model.pieces[id].text.starts_with(kSpacePiece);
      if ((type != PieceType::kNormal && type != PieceType::kByte) || is_spaced) {
        rare.push_back(static_cast<TokenId>(id));
      }
    }
    std::vector<TokenId> ids;
    for (size_t n = UpTo(20); n > 0; --n) {
      ids.push_back(Chance(40) ? Pick(rare)
                               : static_cast<TokenId>(random_() % model.pieces.size()));
    }
    return ids;
  }

  static std::string Stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
    IncrementalDecoder decoder(tokenizer, /*starts_text=*/true);
    std::string text;
    for (const TokenId id : ids) {
      const std::string piece = decoder.Add(id);
      EXPECT_TRUE(IsUtf8(piece));
      text += piece;
    }
    return text + decoder.Finish();
  }

  static void CompareDecoding(const Tokenizer& ours, const SentencePieceReference& library,
                              const std::vector<TokenId>& ids) {
    const std::string text = library.Decode(ids);
    ASSERT_EQ(ours.Decode(ids), text) << ::testing::PrintToString(ids);
    ASSERT_EQ(Stream(ours, ids), text) << ::testing::PrintToString(ids);
  }

  void Compare(const SentencePieceModel& model) {
    TempDir dir;
    ASSERT_TRUE(SaveSentencePieceModel({.model = model}, dir.path()).ok());
    const SentencePieceReference library(ReadFile(dir.path("tokenizer.model")));
    ASSERT_EQ(library.error(), "");
    const auto ours = LoadTokenizer(dir.path());
    ASSERT_TRUE(ours.ok()) << ours.status();
    for (int i = 0; i < kTexts && !HasFatalFailure(); ++i) {
      const std::string text = RandomText(model);
      const std::vector<TokenId> ids = library.Encode(text);
      ASSERT_EQ((*ours)->Encode(text), ids) << "\"" << absl::CHexEscape(text) << "\"";
      CompareDecoding(**ours, library, ids);
      CompareDecoding(**ours, library, RandomIds(model));
    }
  }

  static std::string Describe(const SentencePieceModel& model) {
    std::string out = absl::StrCat(
        model.algorithm == Algorithm::kBpe ? "BPE" : "unigram", ", byte_fallback ",
        model.byte_fallback, ", add_dummy_prefix ", model.add_dummy_prefix,
        ", remove_extra_whitespaces ", model.remove_extra_whitespaces, ", charsmap of ",
        model.charsmap.size(), " bytes, unknown \"", model.unknown_text, "\"\n");
    for (size_t id = 0; id < model.pieces.size(); ++id) {
      const SentencePiece& piece = model.pieces[id];
      if (piece.type == PieceType::kByte) continue;
      absl::StrAppend(&out, id, " \"", piece.text, "\" ", piece.score, " type ",
                      static_cast<int>(piece.type), "\n");
    }
    return out;
  }

  // Rules of normalisation that the library has compiled.
  static std::string Charsmap() {
    const std::string trained = SentencePieceReference::Train(
        {"a b c d e f", "b c", "a b"}, {{"model_type", "bpe"},
                                        {"vocab_size", "15"},
                                        {"hard_vocab_limit", "false"},
                                        {"minloglevel", "2"},
                                        {"normalization_rule_name", "nmt_nfkc_cf"}});
    const auto model = ParseSentencePieceModel(trained, "trained");
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? model->charsmap : "";
  }

  std::mt19937_64 random_{Seed()};
  const std::string charsmap_ = Charsmap();

 private:
  static uint64_t Seed() {
    const uint64_t seed = std::random_device()();
    std::cout << "seed " << seed << "\n";
    return seed;
  }
};

TEST_F(SentencePiecePropertyTest, EncodesDecodesAndStreamsAsTheLibraryDoes) {
  ASSERT_FALSE(charsmap_.empty());
  for (int i = 0; i < kVocabularies; ++i) {
    const SentencePieceModel model = RandomModel();
    Compare(model);
    if (HasFailure()) FAIL() << "vocabulary " << i << ": " << Describe(model);
  }
  std::cout << kVocabularies << " vocabularies, " << kTexts << " texts and lists of ids each\n";
}

// A GGUF file has no charsmap here and no text for unknown characters, and spaces of user-defined
// pieces are U+2581.
TEST_F(SentencePiecePropertyTest, GgufCarriesTheSameModel) {
  TempDir dir;
  const auto flag = [](bool value) { return std::string(1, static_cast<char>(value)); };
  for (int i = 0; i < kVocabularies / 4; ++i) {
    SentencePieceTokenizerSpec spec{.model = RandomModel()};
    spec.model.algorithm = Algorithm::kBpe;
    spec.model.charsmap.clear();
    std::erase_if(spec.model.pieces, [](const SentencePiece& piece) {
      return piece.text.find(' ') != std::string::npos;
    });
    spec.model.unknown_text = SentencePieceModel().unknown_text;
    GgufBuilder file = GgufVocabulary(spec);
    file.Raw("tokenizer.ggml.add_space_prefix", kGgufBool, flag(spec.model.add_dummy_prefix))
        .Raw("tokenizer.ggml.remove_extra_whitespaces", kGgufBool,
             flag(spec.model.remove_extra_whitespaces));
    WriteFile(dir.path("m.gguf"), file.Build());
    const auto read = GgufSentencePieceSpec(**GgufFile::Open(dir.path("m.gguf")));
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(*read, spec) << Describe(spec.model);
  }
}

}  // namespace
}  // namespace pregate
