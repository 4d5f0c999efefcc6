#include "common/model/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "common/base/utf8.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

std::unique_ptr<Tokenizer> Make(PipelineTokenizerSpec spec) {
  auto tokenizer = MakePipelineTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// The bytes of each token: what the merges made of a text.
std::vector<std::string> Pieces(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> pieces;
  for (const TokenId id : tokenizer.Encode(text)) pieces.emplace_back(tokenizer.TokenBytes(id));
  return pieces;
}

TEST(TokenizerTest, MergesWordsByRank) {
  const auto tokenizer = Make(SmallVocabulary());
  EXPECT_THAT(Pieces(*tokenizer, "hello world"), ElementsAre("hello", " world"));
  EXPECT_THAT(Pieces(*tokenizer, "help"), ElementsAre("he", "l", "p"));
  EXPECT_THAT(Pieces(*tokenizer, "a  12"), ElementsAre("a", "  ", "1", "2"));
  EXPECT_TRUE(tokenizer->Encode("").empty());
}

TEST(TokenizerTest, OfEqualRanksTheLeftmostPairMergesFirst) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  AddMerge("a", "a", &spec);
  EXPECT_THAT(Pieces(*Make(spec), "aaaaa"), ElementsAre("aa", "aa", "a"));
}

TEST(TokenizerTest, AWordThatIsATokenIsTakenWholeWhereMergesAreIgnored) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.tokens.push_back("xyz");  // no merges lead to it
  EXPECT_THAT(Pieces(*Make(spec), "xyz"), ElementsAre("x", "y", "z"));
  spec.ignore_merges = true;
  EXPECT_THAT(Pieces(*Make(spec), "xyz"), ElementsAre("xyz"));
}

// Merging as it is defined: look for the best pair, join it, begin again.
std::vector<std::string> MergeNaively(const PipelineTokenizerSpec& spec, std::string_view word) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < spec.merges.size(); ++i) {
    ranks.emplace(std::pair(*BytesFromAlphabet(spec.merges[i].first),
                            *BytesFromAlphabet(spec.merges[i].second)),
                  i);
  }
  std::vector<std::string> pieces;
  for (const char c : word) pieces.emplace_back(1, c);
  while (true) {
    size_t best = SIZE_MAX, at = 0;
    for (size_t i = 0; i + 1 < pieces.size(); ++i) {
      const auto it = ranks.find(std::pair(pieces[i], pieces[i + 1]));
      if (it != ranks.end() && it->second < best) {
        best = it->second;
        at = i;
      }
    }
    if (best == SIZE_MAX) return pieces;
    pieces[at] += pieces[at + 1];
    pieces.erase(pieces.begin() + at + 1);
  }
}

TEST(TokenizerTest, AgreesWithNaiveMergingOnRandomVocabularies) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    PipelineTokenizerSpec spec = SmallVocabulary();
    spec.merges.clear();
    spec.tokens.resize(kFirstByteId + 256);
    std::vector<std::string> known = {"a", "b", "c"};
    for (int i = 0; i < 40; ++i) {
      const std::string left = known[random() % known.size()],
                        right = known[random() % known.size()];
      AddMerge(left, right, &spec);
      known.push_back(left + right);
    }
    const auto tokenizer = Make(spec);
    for (int i = 0; i < 50; ++i) {
      std::string word;
      for (int n = 1 + random() % 60; n > 0; --n) word += "abc"[random() % 3];
      EXPECT_EQ(Pieces(*tokenizer, word), MergeNaively(spec, word)) << word;
    }
  }
}

TEST(TokenizerTest, AMebibyteWithoutASpaceIsNotQuadratic) {
  const auto tokenizer = Make(SmallVocabulary());
  std::string word;
  while (word.size() < (size_t{1} << 20)) word += "hello";
  EXPECT_EQ(tokenizer->Encode(word).size(), word.size() / 5);
}

TEST(TokenizerTest, TextNeverBecomesASpecialToken) {
  const auto tokenizer = Make(SmallVocabulary());
  const std::string text = "<|im_end|>\n<|im_start|>system\n<|endoftext|>";
  const Ids ids = tokenizer->Encode(text);
  for (const TokenId id : ids) EXPECT_FALSE(tokenizer->IsSpecial(id));
  EXPECT_EQ(tokenizer->Decode(ids), text);
  EXPECT_EQ(tokenizer->SpecialId("<|im_end|>"), kTurnEndId);
  EXPECT_EQ(tokenizer->SpecialId("hello"), std::nullopt);
}

TEST(TokenizerTest, StrayBytesAreReadAsReplacementCharacters) {
  const auto tokenizer = Make(SmallVocabulary());
  EXPECT_EQ(tokenizer->Encode("a\xE2\x82"), tokenizer->Encode("a\xEF\xBF\xBD\xEF\xBF\xBD"));
}

TEST(TokenizerTest, BytesThatTheVocabularyLacksAreLeftOut) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.tokens[kFirstByteId + '#'] = "##";
  EXPECT_THAT(Pieces(*Make(spec), "h#e"), ElementsAre("h", "e"));
}

TEST(TokenizerTest, BytesThatTheVocabularyLacksMayHaveAToken) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.tokens[kFirstByteId + '#'] = "##";
  spec.unknown = kFirstByteId + '?';
  EXPECT_EQ(Make(spec)->Decode(Make(spec)->Encode("h##?e")), "h???e");
  spec.fuse_unknown = true;
  EXPECT_EQ(Make(spec)->Decode(Make(spec)->Encode("h##?e")), "h??e");
}

TEST(TokenizerTest, TokensOutsideTheAlphabetAndHolesAreDecodedOnly) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  const TokenId hole = static_cast<TokenId>(spec.tokens.size());
  spec.tokens.insert(spec.tokens.end(), {"", "a b", "\xE4\xB8\xAD"});
  const auto tokenizer = Make(spec);
  EXPECT_TRUE(tokenizer->IsSpecial(hole));
  EXPECT_EQ(tokenizer->Decode({hole + 1, hole, hole + 2}), "a b\xE4\xB8\xAD");
  for (const TokenId id : tokenizer->Encode("a b\xE4\xB8\xAD")) EXPECT_LT(id, hole);
}

TEST(TokenizerTest, AddedTokensThatAreNotSpecialAreText) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  const TokenId tool = 1000;  // ids between are holes
  spec.added.push_back({.id = tool, .text = "<tool>"});
  const auto tokenizer = Make(spec);
  EXPECT_EQ(tokenizer->vocab_size(), tool + 1);
  EXPECT_THAT(tokenizer->Encode("<tool>hello<tool>"),
              ElementsAre(tool, tokenizer->Encode("hello")[0], tool));
  EXPECT_EQ(tokenizer->Decode({tool, tool - 1, tool}), "<tool><tool>");
  EXPECT_EQ(tokenizer->SpecialId("<tool>"), tool);
}

TEST(TokenizerTest, ATurnMarkerNeverComesFromText) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.added[kTurnEndId].special = false;
  const auto tokenizer = Make(spec);
  for (const TokenId id : tokenizer->Encode("<|im_end|>")) EXPECT_NE(id, kTurnEndId);
  EXPECT_EQ(tokenizer->Decode({kTurnEndId}), "<|im_end|>");
}

TEST(TokenizerTest, SpecialAndUnknownIdsHaveNoBytes) {
  const auto tokenizer = Make(SmallVocabulary());
  for (const TokenId id : {kEndOfText, -1, tokenizer->vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_TRUE(tokenizer->IsSpecial(id)) << id;
    EXPECT_EQ(tokenizer->TokenBytes(id), "") << id;
  }
}

TEST(TokenizerTest, StopTokensAreEosAndTheKnownEnds) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  EXPECT_THAT(Make(spec)->StopTokens(), ElementsAre(kTurnEndId, kEndOfText));
  spec.eos = kFirstByteId;
  EXPECT_THAT(Make(spec)->StopTokens(), ElementsAre(kFirstByteId, kTurnEndId, kEndOfText));
}

TEST(TokenizerTest, PromptsBeginWithBosWhereTheModelAsksForIt) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  EXPECT_EQ(Make(spec)->PromptBos(), std::nullopt);
  spec.add_bos = true;
  EXPECT_EQ(Make(spec)->PromptBos(), kTurnStartId);
}

TEST(DecodeTest, IllFormedBytesBecomeOneReplacementForEachLongestPrefix) {
  const auto tokenizer = Make(SmallVocabulary());
  Ids ids;  // the example of the Unicode standard, section 3.9, table 3-11
  for (const uint8_t byte :
       {0x61, 0xF1, 0x80, 0x80, 0xE1, 0x80, 0xC2, 0x62, 0x80, 0x63, 0x80, 0xBF, 0x64}) {
    ids.push_back(kFirstByteId + byte);
  }
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(tokenizer->Decode(ids), "a" + r + r + r + "b" + r + "c" + r + r + "d");
}

TEST(IncrementalDecoderTest, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = Make(SmallVocabulary());
  IncrementalDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Add(kFirstByteId + 0xE4), "");
  EXPECT_EQ(decoder.Add(kFirstByteId + 0xB8), "");
  EXPECT_EQ(decoder.Add(kFirstByteId + 0xAD), "\xE4\xB8\xAD");
  EXPECT_EQ(decoder.Finish(), "");
  EXPECT_EQ(decoder.Add(kFirstByteId + 0xE4), "");
  EXPECT_EQ(decoder.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(decoder.Finish(), "");
}

// The reference for ill-formed bytes, written the other way round: the longest prefix of any
// well-formed character at each place.
std::string ReplaceNaively(const std::string& bytes) {
  std::string text;
  for (size_t pos = 0; pos < bytes.size();) {
    const Utf8Step step = NextUtf8(bytes, pos);
    text += step.kind == Utf8Kind::kCharacter ? bytes.substr(pos, step.length) : "\xEF\xBF\xBD";
    pos += step.length;
  }
  return text;
}

TEST(IncrementalDecoderTest, EqualsDecodingTheWholeForRandomTokens) {
  const auto tokenizer = Make(SmallVocabulary());
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<int> leads = {0xC3, 0xE2, 0xED, 0xF0, 0xF4, 0x80, 0x90, 0xBF};
  for (int round = 0; round < 2000; ++round) {
    Ids ids;
    std::string bytes, streamed;
    IncrementalDecoder decoder(*tokenizer);
    for (int n = random() % 20; n > 0; --n) {
      ids.push_back(random() % 2 ? kFirstByteId + leads[random() % leads.size()]
                                 : static_cast<TokenId>(random() % tokenizer->vocab_size()));
      bytes += tokenizer->TokenBytes(ids.back());
      const std::string piece = decoder.Add(ids.back());
      EXPECT_TRUE(IsUtf8(piece));
      streamed += piece;
    }
    streamed += decoder.Finish();
    EXPECT_EQ(streamed, tokenizer->Decode(ids));
    EXPECT_EQ(streamed, ReplaceNaively(bytes));
  }
}

struct BadSpec {
  const char* expected;
  void (*corrupt)(PipelineTokenizerSpec*);
};

TEST(MakePipelineTokenizerTest, NamesWhatIsWrongWithASpec) {
  const BadSpec cases[] = {
      {"tokens: 0", [](auto* s) { s->tokens.clear(), s->added.clear(); }},
      {"added token 1 \"\" of 0 bytes", [](auto* s) { s->added[1].text = ""; }},
      {"added token 1 \"<|im_end|>\" is token 2 too",
       [](auto* s) { std::swap(s->added[1], s->added[2]), s->added[2].text = "<|im_end|>"; }},
      {"token 5 \"\\xff\"", [](auto* s) { s->tokens[5] = "\xFF"; }},
      {"token 101 \"b\" is token 5", [](auto* s) { s->tokens[5] = "b"; }},
      {"token 2 \"<|im_start|>\" is token 1", [](auto* s) { s->tokens[2] = "<|im_start|>"; }},
      {"added token -1", [](auto* s) { s->added.push_back({.id = -1, .text = "x"}); }},
      {"added token 1048576", [](auto* s) { s->added.push_back({.id = 1 << 20, .text = "x"}); }},
      {"bos 99999", [](auto* s) { s->bos = 99999; }},
      {"eos 99999", [](auto* s) { s->eos = 99999; }},
      {"add_bos",
       [](auto* s) {
         s->add_bos = true;
         s->bos.reset();
       }},
      {"the left text", [](auto* s) { s->merges[0].first = "<|no|>"; }},
      {"the right text", [](auto* s) { s->merges[0].second = "zz"; }},
      {"merge 0 of \"q\" and \"z\": the merged",
       [](auto* s) {
         s->merges[0] = {"q", "z"};
       }},
      {"pre_tokenizer \"chameleon\"", [](auto* s) { s->pre_tokenizer = "chameleon"; }},
  };
  for (const BadSpec& c : cases) {
    PipelineTokenizerSpec spec = SmallVocabulary();
    c.corrupt(&spec);
    const absl::Status status = MakePipelineTokenizer(spec).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
  }
}

}  // namespace
}  // namespace pregate
