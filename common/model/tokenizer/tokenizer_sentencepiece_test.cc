#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cli/model/import.h"
#include "cli/model/inspect.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/tokenizer/testing/small_sentencepiece.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Lt;

std::unique_ptr<Tokenizer> Make(SentencePieceTokenizerSpec spec) {
  auto tokenizer = MakeSentencePieceTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// The texts of all tokens, with bars between.
std::string Pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::string out;
  for (const TokenId id : tokenizer.Encode(text)) {
    out += (out.empty() ? "" : "|") + std::string(tokenizer.TokenBytes(id));
  }
  return out;
}

TokenId Byte(uint8_t byte) { return kFirstBytePieceId + byte; }

TEST(SentencePieceTokenizerTest, MergesByScore) {
  const auto tokenizer = Make(SmallSentencePiece());
  EXPECT_EQ(Pieces(*tokenizer, "hello world"), " hello| world");
  EXPECT_EQ(Pieces(*tokenizer, "hell"), " |hell");
  EXPECT_EQ(Pieces(*tokenizer, "  hello"), "  | hello");
  EXPECT_EQ(Pieces(*tokenizer, ""), "");
}

TEST(SentencePieceTokenizerTest, CharactersWithoutAPieceAreBytes) {
  const auto tokenizer = Make(SmallSentencePiece());
  const std::vector<TokenId> ids = tokenizer->Encode("é\nж");
  ASSERT_EQ(ids.size(), 5u);  // a space, the piece é, three bytes
  EXPECT_EQ(ids[2], Byte('\n'));
  EXPECT_EQ(ids[3], Byte(0xD0));
  EXPECT_EQ(ids[4], Byte(0xB6));
  EXPECT_EQ(tokenizer->TokenBytes(Byte(0xD0)), "\xD0");
  EXPECT_EQ(tokenizer->Decode(ids), "é\nж");
}

TEST(SentencePieceTokenizerTest, StrayBytesAreReplacementCharacters) {
  const auto tokenizer = Make(SmallSentencePiece());
  EXPECT_EQ(tokenizer->Encode("h\xFFh\xE2\x96"), tokenizer->Encode("h\uFFFDh\uFFFD\uFFFD"));
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode("\xC3")), "\uFFFD");
}

TEST(SentencePieceTokenizerTest, TextNeverBecomesASpecialTokenOrATurnMarker) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.model.pieces.push_back({"<|im_end|>", 1000, PieceType::kUserDefined});
  spec.model.pieces.push_back({"<|", -50, PieceType::kNormal});
  const TokenId im_end = static_cast<TokenId>(spec.model.pieces.size()) - 2;
  for (const auto algorithm :
       {SentencePieceModel::Algorithm::kBpe, SentencePieceModel::Algorithm::kUnigram}) {
    spec.model.algorithm = algorithm;
    const auto tokenizer = Make(spec);
    for (const char* text : {"<s>", "</s>", "<unk>", "<|im_end|>", "hello<|im_end|>", "<0x0A>"}) {
      for (const TokenId id : tokenizer->Encode(text)) {
        EXPECT_FALSE(tokenizer->IsSpecial(id)) << text;
        EXPECT_NE(id, im_end);
        EXPECT_NE(id, kUnkPieceId);
        EXPECT_NE(id, Byte('\n'));
      }
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
    }
    EXPECT_FALSE(tokenizer->IsSpecial(im_end));  // generated, it is text as in the library
    EXPECT_EQ(tokenizer->TokenBytes(im_end), "<|im_end|>");
    EXPECT_EQ(tokenizer->SpecialId("<|im_end|>"), im_end);
    EXPECT_EQ(tokenizer->SpecialId("</s>"), kEosPieceId);
    EXPECT_EQ(tokenizer->SpecialId("hello"), std::nullopt);
    EXPECT_THAT(tokenizer->StopTokens(), ElementsAre(kEosPieceId, im_end));
  }
  for (const TokenId id : {-1, kBosPieceId, 100000}) {
    EXPECT_TRUE(Make(spec)->IsSpecial(id));
    EXPECT_EQ(Make(spec)->TokenBytes(id), "");
  }
}

TEST(SentencePieceTokenizerTest, UserDefinedPiecesComeFirstAndTheLongestOfThem) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  for (const char* text : {"<t", "<tool>", "ello", "▁▁▁", "o▁w"}) {
    spec.model.pieces.push_back({text, -1000, PieceType::kUserDefined});
  }
  const auto bpe = Make(spec);
  EXPECT_EQ(Pieces(*bpe, "hello"), " |h|ello");
  EXPECT_EQ(Pieces(*bpe, "<tool>hell<t"), " |<tool>|hell|<t");
  EXPECT_EQ(Pieces(*bpe, "o world"), " |o w|or|ld");
  EXPECT_EQ(Pieces(*bpe, "   hello"), "   | |h|ello");
  EXPECT_EQ(bpe->Decode(bpe->Encode("   <tool> hello")), "   <tool> hello");
  for (SentencePiece& piece : spec.model.pieces) {
    if (piece.type == PieceType::kNormal) piece.score = piece.score / 10 - 5;
  }
  spec.model.algorithm = SentencePieceModel::Algorithm::kUnigram;
  const auto unigram = Make(spec);
  EXPECT_EQ(Pieces(*unigram, "xello<tool>"), " |x|ello|<tool>");
  EXPECT_EQ(Pieces(*unigram, "hello"), " hello");  // better than three pieces, as in the library
}

TEST(SentencePieceTokenizerTest, TheUnknownPieceHasTheModelsTextForIt) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  EXPECT_EQ(Make(spec)->TokenBytes(kUnkPieceId), " ⁇ ");
  EXPECT_EQ(Make(spec)->SpecialId("<unk>"), kUnkPieceId);
  spec.model.unknown_text = "?";
  EXPECT_EQ(Make(spec)->Decode({kUnkPieceId, kUnkPieceId}), "??");
}

TEST(SentencePieceTokenizerTest, OnlyNeighbouringBytesMakeACharacter) {
  const auto tokenizer = Make(SmallSentencePiece());
  const std::string r = "\uFFFD";
  EXPECT_EQ(tokenizer->Decode({Byte(0xE4), Byte(0xB8), Byte(0xAD)}), "中");
  EXPECT_EQ(tokenizer->Decode({Byte(0xE4), Byte(0xB8)}), r + r);
  EXPECT_EQ(tokenizer->Decode({Byte(0xE4), Byte(0xB8), Byte('a')}), r + r + "a");
  EXPECT_EQ(tokenizer->Decode({Byte(0xE4), kBosPieceId, Byte(0xB8), Byte(0xAD)}), r + r + r);
}

TEST(SentencePieceTokenizerTest, OnlyThePiecesOwnSpaceLeavesTheBeginning) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  const auto hello = Make(spec)->Encode("hello");
  ASSERT_EQ(hello.size(), 1u);
  EXPECT_EQ(Make(spec)->Decode({Byte(' '), hello[0]}), "  hello");
  EXPECT_EQ(Make(spec)->Decode({hello[0], hello[0]}), "hello hello");
  const TokenId space = Make(spec)->Encode("l")[0];
  EXPECT_EQ(Make(spec)->Decode({space, hello[0]}), " hello");
  spec.model.remove_extra_whitespaces = true;
  EXPECT_EQ(Make(spec)->Decode({space, hello[0]}), "hello");
}

TEST(SentencePieceTokenizerTest, TheDummyPrefixIsNoPartOfAText) {
  const auto tokenizer = Make(SmallSentencePiece());
  for (const char* text : {"hello", " hello", "  hello ", " ", "\n hello", "é", "h e"}) {
    EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text) << "'" << text << "'";
    std::vector<TokenId> prompt = tokenizer->EncodePrompt(text);
    EXPECT_EQ(prompt[0], kBosPieceId);
    EXPECT_EQ(tokenizer->Decode(prompt), text);
  }
}

TEST(SentencePieceTokenizerTest, AContinuationKeepsItsSpace) {
  const auto tokenizer = Make(SmallSentencePiece());
  IncrementalDecoder answer(*tokenizer);
  std::string text = "hello";
  for (const TokenId id : tokenizer->Encode("world hello")) text += answer.Add(id);
  EXPECT_EQ(text + answer.Finish(), "hello world hello");
  IncrementalDecoder whole(*tokenizer, /*starts_text=*/true);
  text.clear();
  for (const TokenId id : tokenizer->EncodePrompt("world hello")) text += whole.Add(id);
  EXPECT_EQ(text, "world hello");
}

TEST(SentencePieceTokenizerTest, WithoutADummyPrefixSpacesAreTheTextsOwn) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.model.add_dummy_prefix = false;
  const auto tokenizer = Make(spec);
  EXPECT_EQ(Pieces(*tokenizer, "hello world"), "hello| world");
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(" hello")), " hello");
}

TEST(SentencePieceTokenizerTest, ExtraWhitespaceGoesWhereTheModelWantsIt) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.model.remove_extra_whitespaces = true;
  EXPECT_EQ(Pieces(*Make(spec), "  hello    world  "), " hello| world");
  EXPECT_EQ(Pieces(*Make(spec), "   "), "");
}

TEST(SentencePieceTokenizerTest, LongTextsStayFast) {
  const auto tokenizer = Make(SmallSentencePiece());
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'x')).size(), (1u << 20) + 1);
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, ' ')).size(), (1u << 19) + 1);
}

TEST(SentencePieceTokenizerTest, RefusesBosAndEosOutsideOfTheVocabulary) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.eos = 5000;
  EXPECT_THAT(std::string(MakeSentencePieceTokenizer(spec).status().message()),
              HasSubstr("eos 5000"));
  spec = SmallSentencePiece();
  spec.bos = std::nullopt;
  EXPECT_THAT(std::string(MakeSentencePieceTokenizer(spec).status().message()),
              HasSubstr("add_bos"));
}

class SentencePieceFilesTest : public ::testing::Test {
 protected:
  void WriteModelFile(const SentencePieceModel& model) {
    WriteFile(dir_.path("tokenizer.model"), SerializeSentencePieceModel(model));
  }
  std::string LoadError() const {
    return std::string(LoadTokenizer(dir_.path()).status().message());
  }
  TempDir dir_;
};

TEST_F(SentencePieceFilesTest, AModelAloneIsEnough) {
  WriteModelFile(SmallSentencePiece().model);
  EXPECT_EQ(LoadSentencePieceSpec(dir_.path()).value(), SmallSentencePiece());
  EXPECT_EQ(LoadTokenizer(dir_.path()).value()->PromptBos(), kBosPieceId);
}

TEST_F(SentencePieceFilesTest, TokenizerConfigDecidesOnBosEosAndTemplate) {
  WriteModelFile(SmallSentencePiece().model);
  WriteFile(dir_.path("tokenizer_config.json"),
            R"({"add_bos_token": false, "bos_token": {"content": "</s>"}, "eos_token": "<s>",)"
            R"( "chat_template": "x"})");
  auto spec = LoadSentencePieceSpec(dir_.path()).value();
  EXPECT_EQ(spec.bos, kEosPieceId);
  EXPECT_EQ(spec.eos, kBosPieceId);
  EXPECT_FALSE(spec.add_bos);
  EXPECT_EQ(spec.chat_template, "x");
  WriteFile(dir_.path("tokenizer_config.json"), R"({"eos_token": "<end>"})");
  EXPECT_THAT(LoadError(), HasSubstr("eos_token \"<end>\" is not a token"));
}

TEST_F(SentencePieceFilesTest, TokensAddedByAFineTuneAreUserDefinedOrSpecial) {
  const SentencePieceModel model = SmallSentencePiece().model;
  const int next = static_cast<int>(model.pieces.size());
  WriteModelFile(model);
  WriteFile(dir_.path("added_tokens.json"), R"({"<|im_end|>": )" + std::to_string(next) + "}");
  WriteFile(dir_.path("tokenizer_config.json"),
            R"({"added_tokens_decoder": {"1": {"content": "<s>"}, ")" + std::to_string(next + 1) +
                R"(": {"content": "<|user|>", "special": true}, ")" + std::to_string(next + 2) +
                R"(": {"content": "<think>", "special": false}}, "eos_token": "<|im_end|>"})");
  const auto tokenizer = LoadTokenizer(dir_.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), next + 3);
  EXPECT_EQ((*tokenizer)->SpecialId("<|user|>"), next + 1);
  EXPECT_TRUE((*tokenizer)->IsSpecial(next + 1));
  EXPECT_EQ(Pieces(**tokenizer, "h<think>h"), " |h|<think>|h");
  EXPECT_THAT((*tokenizer)->Encode("<|user|><|im_end|>"), Each(Lt(next)));
  EXPECT_THAT((*tokenizer)->StopTokens(), ElementsAre(next, kEosPieceId));
  WriteFile(dir_.path("added_tokens.json"), R"({"<|im_end|>": 7})");
  EXPECT_THAT(LoadError(), HasSubstr("\"<|im_end|>\" has the id 7"));
  WriteFile(dir_.path("added_tokens.json"), R"({})");
  EXPECT_THAT(LoadError(), HasSubstr("\"<|user|>\" has the id 285, expected 284"));
}

// As Gemma's files have it.
TEST_F(SentencePieceFilesTest, AUserDefinedPieceThatTheConfigCallsSpecialIsSpecial) {
  SentencePieceModel model = SmallSentencePiece().model;
  const int id = static_cast<int>(model.pieces.size());
  model.pieces.push_back({"<start_of_image>", 0, PieceType::kUserDefined});
  WriteModelFile(model);
  EXPECT_THAT(LoadTokenizer(dir_.path()).value()->Encode("<start_of_image>"), Contains(id));
  WriteFile(dir_.path("tokenizer_config.json"),
            R"({"added_tokens_decoder": {")" + std::to_string(id) +
                R"(": {"content": "<start_of_image>", "special": true}}})");
  const auto tokenizer = LoadTokenizer(dir_.path()).value();
  EXPECT_THAT(tokenizer->Encode("<start_of_image>"), Each(Lt(id)));
  EXPECT_TRUE(tokenizer->IsSpecial(id));
}

TEST_F(SentencePieceFilesTest, TheConfigSaysWhereTheDummyPrefixStandsInChat) {
  WriteModelFile(SmallSentencePiece().model);
  const std::string chat = R"("chat_template": "{{ bos_token }}{{ messages[0].content }}")";
  const auto ids = [&](const std::string& legacy) {
    WriteFile(dir_.path("tokenizer_config.json"), "{" + legacy + chat + "}");
    const auto tokenizer = LoadTokenizer(dir_.path());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return (*tokenizer)->ApplyChatTemplate({{"user", "hello"}}, true).value();
  };
  const auto tokenizer = Make(SmallSentencePiece());
  std::vector<TokenId> with_prefix = tokenizer->Encode("hello");
  with_prefix.insert(with_prefix.begin(), kBosPieceId);
  EXPECT_EQ(ids(R"("legacy": true, )"), with_prefix);
  EXPECT_NE(ids(R"("legacy": false, )"), with_prefix);
  EXPECT_EQ(ids(R"("legacy": false, )"), ids(""));
  EXPECT_EQ(Make(SmallSentencePiece())->Decode(ids("")), "hello");
}

// As Phi-3's files have it.
TEST_F(SentencePieceFilesTest, ASpecialTokenTakesTheSpaceBehindItInChat) {
  SentencePieceModel model = SmallSentencePiece().model;
  const int id = static_cast<int>(model.pieces.size());
  WriteModelFile(model);
  WriteFile(dir_.path("tokenizer_config.json"),
            R"({"legacy": true, "chat_template": "<|go|>\n {{ messages[0].content }}",)"
            R"( "added_tokens_decoder": {")" +
                std::to_string(id) +
                R"(": {"content": "<|go|>", "special": true, "rstrip": true}}})");
  const auto spec = LoadSentencePieceSpec(dir_.path()).value();
  const auto tokenizer = Make(spec);
  std::vector<TokenId> expected = tokenizer->Encode("hello");
  expected.insert(expected.begin(), id);
  EXPECT_EQ(tokenizer->ApplyChatTemplate({{"user", "\thello"}}, true).value(), expected);
  ASSERT_TRUE(SaveSentencePieceModel(spec, dir_.path()).ok());
  EXPECT_EQ(LoadSentencePieceSpec(dir_.path()).value(), spec);
}

TEST_F(SentencePieceFilesTest, TheModelFileComesBeforeTokenizerJson) {
  ASSERT_TRUE(SaveTokenizerJson(SmallVocabulary(), dir_.path()).ok());
  EXPECT_EQ(LoadTokenizer(dir_.path()).value()->kind(), "byte-level BPE");
  std::filesystem::remove(dir_.path("tokenizer_config.json"));
  WriteModelFile(SmallSentencePiece().model);
  EXPECT_EQ(LoadTokenizer(dir_.path()).value()->kind(), "SentencePiece BPE");
  std::filesystem::remove(dir_.path("tokenizer.model"));
  std::filesystem::remove(dir_.path("tokenizer.json"));
  EXPECT_TRUE(absl::IsNotFound(LoadTokenizer(dir_.path()).status()));
}

TEST_F(SentencePieceFilesTest, AnotherKindOfFileUnderItsNameGivesWayToTokenizerJson) {
  WriteFile(dir_.path("tokenizer.model"), "IQ== 0\nIg== 1\n");  // as tiktoken writes them
  EXPECT_THAT(LoadError(), HasSubstr("tokenizer.model"));
  ASSERT_TRUE(SaveTokenizerJson(SmallVocabulary(), dir_.path()).ok());
  EXPECT_EQ(LoadTokenizer(dir_.path()).value()->kind(), "byte-level BPE");
}

TEST_F(SentencePieceFilesTest, RefusesAFileThatIsTooLarge) {
  WriteFile(dir_.path("tokenizer.model"), "");
  std::filesystem::resize_file(dir_.path("tokenizer.model"), (16u << 20) + 1);
  EXPECT_TRUE(absl::IsOutOfRange(LoadTokenizer(dir_.path()).status()));
}

TEST_F(SentencePieceFilesTest, ReadsBackWhatItSaves) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.model.pieces.push_back({"<|x|>", 0, PieceType::kUserDefined});
  spec.chat_template = "{{ bos_token }}";
  spec.add_bos = false;
  ASSERT_TRUE(SaveSentencePieceModel(spec, dir_.path()).ok());
  EXPECT_EQ(LoadSentencePieceSpec(dir_.path()).value(), spec);
}

// A small Llama whose vocabulary is the small one.
nlohmann::json ConfigFor(const SentencePieceTokenizerSpec& spec) {
  nlohmann::json config = SmallConfig();
  config["vocab_size"] = spec.model.pieces.size();
  return config;
}

TEST_F(SentencePieceFilesTest, CheckpointsImportAndInspectCarryIt) {
  const SentencePieceTokenizerSpec spec = SmallSentencePiece();
  const nlohmann::json config = ConfigFor(spec);
  const auto shape = ParseDenseConfig(*JsonObject::From(config, "config"));
  WriteModel(dir_.path("hf"), config, RandomTensors(*shape, 1));
  ASSERT_TRUE(SaveSentencePieceModel(spec, dir_.path("hf")).ok());
  EXPECT_EQ(InspectCheckpoint(dir_.path("hf"), false).value()["tokenizer_kind"],
            "SentencePiece BPE");
  ImportOptions import{.from = "hf", .in = dir_.path("hf"), .out = dir_.path("out")};
  ASSERT_TRUE(ImportCheckpoint(import).ok());
  const auto checkpoint = Checkpoint::Open(dir_.path("out"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto tokenizer = (*checkpoint)->LoadTokenizer();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("hello world"), Make(spec)->Encode("hello world"));
  WriteFile(dir_.path("out/tokenizer.model"), "corrupt");
  const auto inspected = InspectCheckpoint(dir_.path("out"), false).value();
  EXPECT_FALSE(inspected["tokenizer"]);
  EXPECT_THAT(inspected["tokenizer_error"].get<std::string>(), HasSubstr("tokenizer.model"));
}

TEST_F(SentencePieceFilesTest, AGgufFilesVocabularyBecomesAModelFile) {
  SentencePieceTokenizerSpec spec = SmallSentencePiece();
  spec.chat_template = "{{ messages }}";
  spec.chat_variables.more_templates["tool_use"] = "{{ tools }}";
  WriteFile(dir_.path("m.gguf"), GgufVocabulary(spec).Build());
  const auto file = GgufFile::Open(dir_.path("m.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  std::filesystem::create_directory(dir_.path("out"));
  ASSERT_TRUE(SaveGgufTokenizer(**file, dir_.path("out")).ok());
  EXPECT_EQ(LoadSentencePieceSpec(dir_.path("out")).value(), spec);
  EXPECT_EQ(LoadGgufTokenizer(**file).value()->kind(), "SentencePiece BPE");
}

}  // namespace
}  // namespace pregate
