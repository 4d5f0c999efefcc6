#include "common/model/tokenizer/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <random>

#include "common/base/limits.h"
#include "common/base/proto_wire.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/tokenizer/sentencepiece_normalizer.h"
#include "common/model/tokenizer/testing/small_sentencepiece.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

std::string Bytes(const SentencePieceModel& model) { return SerializeSentencePieceModel(model); }

std::string U32(uint32_t value) {
  std::string out;
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>(value >> shift));
  return out;
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(SentencePieceModelTest, ReadsWhatItWrites) {
  SentencePieceModel model = SmallSentencePiece().model;
  EXPECT_EQ(ParseSentencePieceModel(Bytes(model), "m").value(), model);
  model.algorithm = SentencePieceModel::Algorithm::kUnigram;
  model.add_dummy_prefix = false;
  model.remove_extra_whitespaces = true;
  model.charsmap = std::string("\4\0\0\0\0\0\0\0\0", 9);
  model.pieces.push_back({"<|im_start|>", -1.5f, PieceType::kUserDefined});
  model.bos_piece = "<|im_start|>";
  model.unknown_text = "?";
  EXPECT_EQ(ParseSentencePieceModel(Bytes(model), "m").value(), model);
}

TEST(SentencePieceModelTest, AFileThatSaysNothingHasTheFormatsDefaults) {
  std::string piece, bytes;
  AppendWireBytes(1, "<unk>", &piece);
  AppendWireVarint(3, 2, &piece);
  AppendWireBytes(1, piece, &bytes);
  const auto model = ParseSentencePieceModel(bytes, "m");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->algorithm, SentencePieceModel::Algorithm::kUnigram);
  EXPECT_TRUE(model->add_dummy_prefix);
  EXPECT_TRUE(model->remove_extra_whitespaces);
  EXPECT_FALSE(model->byte_fallback);
}

struct BrokenModel {
  const char* named;  // in the error
  std::function<void(SentencePieceModel*)> corrupt;
};

TEST(SentencePieceModelTest, NamesWhatIsWrongWithAModel) {
  const BrokenModel kCases[] = {
      {"0 pieces", [](auto* m) { m->pieces.clear(); }},
      {"piece 260 \"he\" is piece 259 too", [](auto* m) { m->pieces[260].text = "he"; }},
      {"piece 2 \"<s>\" is piece 1 too", [](auto* m) { m->pieces[2].text = "<s>"; }},
      {"piece 259 \"\" of 0 bytes", [](auto* m) { m->pieces[259].text = ""; }},
      {"piece 259 \"\\xff\" of 1 bytes", [](auto* m) { m->pieces[259].text = "\xFF"; }},
      {"of 5000 bytes", [](auto* m) { m->pieces[259].text = std::string(5000, 'x'); }},
      {"piece 259 \"he\": score nan", [](auto* m) { m->pieces[259].score = std::nanf(""); }},
      {"piece 259 \"he\": score -inf",
       [](auto* m) { m->pieces[259].score = -std::numeric_limits<float>::infinity(); }},
      {"score 1e+20", [](auto* m) { m->pieces[259].score = 1e20f; }},
      {"0 unknown pieces", [](auto* m) { m->pieces[0].type = PieceType::kControl; }},
      {"2 unknown pieces", [](auto* m) { m->pieces[1].type = PieceType::kUnknown; }},
      {"no piece is the byte <0x0A>", [](auto* m) { m->pieces[13].type = PieceType::kNormal; }},
      {"is no byte", [](auto* m) { m->pieces[13].text = "<0x0a>"; }},
      {"unk_surface \"\\xff\" of 1 bytes", [](auto* m) { m->unknown_text = "\xFF"; }},
      {"a byte without byte_fallback", [](auto* m) { m->byte_fallback = false; }},
  };
  for (const BrokenModel& broken : kCases) {
    SentencePieceTokenizerSpec spec = SmallSentencePiece();
    broken.corrupt(&spec.model);
    const auto parsed = ParseSentencePieceModel(Bytes(spec.model), "dir/tokenizer.model");
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << broken.named;
    EXPECT_THAT(Message(parsed.status()), HasSubstr(broken.named));
    EXPECT_THAT(Message(parsed.status()), HasSubstr("dir/tokenizer.model"));
    spec.bos = spec.eos = std::nullopt;
    spec.add_bos = false;
    EXPECT_TRUE(absl::IsInvalidArgument(MakeSentencePieceTokenizer(spec).status())) << broken.named;
  }
}

TEST(SentencePieceModelTest, RefusesWhatItDoesNotKnow) {
  const auto with = [](uint32_t spec_field, uint32_t field, uint64_t value) {
    std::string inner, bytes = Bytes(SmallSentencePiece().model);
    AppendWireVarint(field, value, &inner);
    AppendWireBytes(spec_field, inner, &bytes);
    return ParseSentencePieceModel(bytes, "m").status();
  };
  EXPECT_TRUE(with(2, 99, 1).ok());  // a field that does not matter
  for (const auto& [status, named] : {std::pair(with(2, 3, 3), "model_type 3"),
                                      std::pair(with(2, 24, 1), "treat_whitespace_as_suffix"),
                                      std::pair(with(3, 5, 0), "escape_whitespaces")}) {
    EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr(named));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(with(1, 3, 7)));  // a piece of type 7
}

TEST(SentencePieceModelTest, CountsPiecesBeforeItKeepsThem) {
  std::string bytes;
  for (int64_t i = 0; i <= kVocabSizeMax; ++i) AppendWireBytes(1, "", &bytes);
  EXPECT_THAT(Message(ParseSentencePieceModel(bytes, "m").status()),
              HasSubstr("more than 1048576 pieces"));
}

// Whatever parses must also encode and decode.
void Use(const std::string& bytes) {
  auto model = ParseSentencePieceModel(bytes, "m");
  if (!model.ok()) return;
  const auto tokenizer = MakeSentencePieceTokenizer({.model = *std::move(model)});
  if (!tokenizer.ok()) return;
  for (const char* text : {"", " ", "hello world", "  a\n<s> </s>", "\xFF\xE2\x96\x81", "日本 é"}) {
    for (const TokenId id : (*tokenizer)->Encode(text)) {
      ASSERT_TRUE(id >= 0 && id < (*tokenizer)->vocab_size());
    }
    (*tokenizer)->Decode((*tokenizer)->Encode(text));
  }
}

TEST(SentencePieceModelTest, CutFilesAreRefused) {
  const std::string whole = Bytes(SmallSentencePiece().model);
  ASSERT_TRUE(ParseSentencePieceModel(whole, "m").ok());
  int num_refused = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    Use(whole.substr(0, size));
    num_refused += !ParseSentencePieceModel(whole.substr(0, size), "m").ok();
  }
  EXPECT_GT(num_refused, static_cast<int>(whole.size()) * 9 / 10);
}

TEST(SentencePieceModelTest, SurvivesCorruptAndRandomFiles) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  std::mt19937 random(seed);
  SentencePieceModel model = SmallSentencePiece().model;
  for (const bool unigram : {false, true}) {
    if (unigram) model.algorithm = SentencePieceModel::Algorithm::kUnigram;
    // A trie of random units: whatever it says must stay inside it.
    model.charsmap = U32(1024);
    for (int i = 0; i < 256; ++i) {
      model.charsmap += U32(i == 0 ? 1u << 10 : (random() & 0x3FFFF00) | (random() & 0xFF));
    }
    model.charsmap += std::string("a\0b c\0  \0", 9);
    const std::string whole = Bytes(model);
    ASSERT_TRUE(ParseSentencePieceModel(whole, "m").ok());
    for (int i = 0; i < 3000; ++i) {
      std::string bytes = whole;
      for (uint32_t n = 1 + random() % 4; n > 0; --n) bytes[random() % bytes.size()] = random();
      if (random() % 4 == 0) bytes.resize(random() % bytes.size());
      Use(bytes);
    }
  }
  for (int i = 0; i < 3000; ++i) {
    std::string bytes(random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 == 0 ? random() : random() % 16);
    Use(bytes);
  }
}

TEST(SentencePieceModelTest, RefusesBrokenCharsmaps) {
  SentencePieceModel model = SmallSentencePiece().model;
  for (const std::string& charsmap :
       {std::string("\1"), U32(4), U32(0) + "abcd", U32(8) + U32(0), U32(3) + "abcd",
        U32(0xFFFFFFFC) + U32(0) + std::string("a\0", 2), U32(4) + U32(0),
        U32(4) + U32(0) + "no zero byte", U32(4) + U32(0) + std::string("\xFF\0", 2),
        // One byte of a prompt must not become a mebibyte.
        U32(4) + U32(0) + std::string(1 << 20, 'a') + std::string(1, '\0')}) {
    model.charsmap = charsmap;
    const auto status = SentencePieceNormalizer::Make(model).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << charsmap.size();
    EXPECT_THAT(Message(status), HasSubstr("precompiled_charsmap"));
  }
}

class GgufSentencePieceTest : public ::testing::Test {
 protected:
  absl::StatusOr<SentencePieceTokenizerSpec> Read(const GgufBuilder& builder) {
    WriteFile(dir_.path("m.gguf"), builder.Build());
    const auto file = GgufFile::Open(dir_.path("m.gguf"));
    EXPECT_TRUE(file.ok()) << file.status();
    return GgufSentencePieceSpec(**file);
  }
  TempDir dir_;
};

TEST_F(GgufSentencePieceTest, ReadsPiecesAndFlags) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  EXPECT_EQ(Read(GgufVocabulary(spec)).value(), spec);
  GgufBuilder file = GgufVocabulary(spec);
  file.Raw("tokenizer.ggml.add_bos_token", kGgufBool, std::string(1, '\0'))
      .Raw("tokenizer.ggml.add_space_prefix", kGgufBool, std::string(1, '\0'));
  spec.add_bos = false;
  spec.model.add_dummy_prefix = false;
  EXPECT_EQ(Read(file).value(), spec);
}

TEST_F(GgufSentencePieceTest, SpacesOfUserDefinedPiecesAreThoseOfTexts) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.model.pieces.push_back({"   x", 0, PieceType::kUserDefined});
  const GgufBuilder file = GgufVocabulary(spec);
  spec.model.pieces.back().text = "▁▁▁x";
  EXPECT_EQ(Read(file).value(), spec);
}

TEST_F(GgufSentencePieceTest, NamesWhatIsWrong) {
  const auto with = [](std::vector<std::string> tokens, std::vector<float> scores,
                       std::vector<int32_t> types) {
    GgufBuilder file;
    file.Str("tokenizer.ggml.model", "llama").Strings("tokenizer.ggml.tokens", tokens);
    file.Raw("tokenizer.ggml.scores", kGgufArray, GgufArray(kGgufFloat32, scores));
    file.Raw("tokenizer.ggml.token_type", kGgufArray, GgufArray(kGgufInt32, types));
    return file;
  };
  const std::vector<std::string> tokens = {"<unk>", "a"};
  EXPECT_TRUE(Read(with(tokens, {0, 1}, {2, 1})).ok());
  const auto message = [&](const GgufBuilder& file) { return Message(Read(file).status()); };
  EXPECT_THAT(message(with(tokens, {0}, {2, 1})), HasSubstr("scores has 1 entries for 2 tokens"));
  EXPECT_THAT(message(with(tokens, {0, 1}, {2})), HasSubstr("token_type has 1 entries for 2"));
  EXPECT_THAT(message(with(tokens, {0, 1}, {2, 7})), HasSubstr("token_type[1] is 7"));
  EXPECT_THAT(message(with(tokens, {0, std::nanf("")}, {2, 1})), HasSubstr("score nan"));
  EXPECT_THAT(message(with({"<unk>", "<unk>"}, {0, 1}, {2, 2})), HasSubstr("2 unknown pieces"));
  GgufBuilder other;
  other.Str("tokenizer.ggml.model", "t5");
  EXPECT_TRUE(absl::IsUnimplemented(Read(other).status()));
  EXPECT_TRUE(absl::IsNotFound(Read(GgufBuilder().Str("general.architecture", "llama")).status()));
}

}  // namespace
}  // namespace pregate
