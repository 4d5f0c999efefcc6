#include "common/model/tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/model/tokenizer/published_regexes.h"
#include "common/model/tokenizer/regex.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Texts = std::vector<std::string>;

PreTokenizer Made(const json& value) {
  auto made = PreTokenizer::Make(value, "pre_tokenizer");
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

Texts TextsOf(const Words& words) {
  Texts out;
  for (const Words::Word& word : words.words) out.emplace_back(word.text);
  return out;
}

Texts Split(const json& value, std::string_view text, bool begins_text = true) {
  return TextsOf(Made(value).Split(text, begins_text));
}

Texts SplitByName(std::string_view name, std::string_view text) {
  return Split(PreTokenizerFromName(name).value(), text);
}

json Regex(const char* regex, const char* behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", behavior},
          {"invert", invert}};
}

TEST(NamedPreTokenizerTest, Gpt2KeepsASpaceWithItsWordAndRunsOfNumbersWhole) {
  EXPECT_THAT(SplitByName("gpt2", "It's  a 1234 test!!\n\n ok"),
              ElementsAre("It", "'s", " ", " a", " 1234", " test", "!!", "\n\n", " ok"));
}

TEST(NamedPreTokenizerTest, SmollmCutsDigitsOneByOneAndEndsWhiteSpaceBeforeThem) {
  EXPECT_THAT(SplitByName("smollm", "a  12,3\n\n4 b  c"),
              ElementsAre("a", "  ", "1", "2", ",", "3", "\n\n", "4", " b", " ", " c"));
  EXPECT_THAT(SplitByName("smollm", "\xC2\xBD\xE2\x85\xA7"),
              ElementsAre("\xC2\xBD", "\xE2\x85\xA7"));
}

TEST(NamedPreTokenizerTest, Llama3TakesNumbersInThreesAndLineEndsWithWhatStandsBefore) {
  EXPECT_THAT(
      SplitByName("llama-bpe", "I'LL pay $12345.\n\n  So(what)"),
      ElementsAre("I", "'LL", " pay", " $", "123", "45", ".\n\n", " ", " So", "(what", ")"));
}

TEST(NamedPreTokenizerTest, Qwen2IsLlama3WithDigitsApart) {
  EXPECT_THAT(SplitByName("qwen2", "I'll pay $12"),
              ElementsAre("I", "'ll", " pay", " $", "1", "2"));
}

TEST(NamedPreTokenizerTest, TekkenAndGpt4oEndWordsWhereSmallLettersTurnIntoCapitals) {
  EXPECT_THAT(SplitByName("tekken", "myCamelCASE's 12"),
              ElementsAre("my", "Camel", "CASE", "'s", " ", "1", "2"));
  EXPECT_THAT(SplitByName("gpt-4o", "myCamelCASE's 1234"),
              ElementsAre("my", "Camel", "CASE's", " ", "123", "4"));
}

TEST(NamedPreTokenizerTest, DefaultSetsPunctuationApartAndCutsNumbersInThreesFromTheLeft) {
  EXPECT_THAT(SplitByName("default", "a, 12345"), ElementsAre("a", ",", " ", "123", "45"));
}

TEST(NamedPreTokenizerTest, WhiteSpaceIsUnicodes) {
  // U+00A0 is white space, U+180E is not any more.
  EXPECT_THAT(SplitByName("gpt2", "a\xC2\xA0\xC2\xA0"), ElementsAre("a", "\xC2\xA0\xC2\xA0"));
  EXPECT_THAT(SplitByName("gpt2", "!\xE1\xA0\x8E"), ElementsAre("!\xE1\xA0\x8E"));
}

TEST(NamedPreTokenizerTest, NamesAndAliases) {
  EXPECT_STREQ(FindNamedPreTokenizer("gpt-2").value()->name, "gpt2");
  EXPECT_STREQ(FindNamedPreTokenizer("llama3").value()->name, "llama-bpe");
  EXPECT_STREQ(FindNamedPreTokenizer("refact").value()->name, "smollm");
  EXPECT_STREQ(FindNamedPreTokenizer("deepseek-r1-qwen").value()->name, "qwen2");
  EXPECT_STREQ(FindNamedPreTokenizer("").value()->name, "default");
  EXPECT_TRUE(MeansWholeWordsAndBos("llama-v3"));
  EXPECT_FALSE(MeansWholeWordsAndBos("smaug-bpe"));
  const absl::Status unknown = FindNamedPreTokenizer("chameleon").status();
  EXPECT_TRUE(absl::IsUnimplemented(unknown));
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("\"chameleon\""));
}

TEST(NamedPreTokenizerTest, EachNameIsFoundAgainByWhatItStandsFor) {
  for (const NamedPreTokenizer& named : NamedPreTokenizers()) {
    EXPECT_EQ(NameOfPreTokenizer(PreTokenizerFromName(named.name).value()), named.name);
  }
  EXPECT_EQ(NameOfPreTokenizer(Regex("x", "Isolated")), "");
}

// What texts are made of: what the published expressions tell apart.
const Texts& Parts() {
  static const auto& parts = *new Texts{"'s",
                                        "'S",
                                        "'\xC5\xBF",
                                        "'re",
                                        "'LL",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r",
                                        "\t",
                                        "a",
                                        "Zq",
                                        "aBC",
                                        "7",
                                        "12345",
                                        "!",
                                        "$",
                                        "/",
                                        "_",
                                        "\xC2\xA0",
                                        "\xC3\xA9",
                                        "e\xCC\x81",
                                        "\xE4\xB8\xAD",
                                        "\xE3\x81\x82",
                                        "\xC2\xBD",
                                        "\xD9\xA3",
                                        "\xE1\xA0\x8E",
                                        "\xE2\x80\xA8",
                                        "\xC2\x85",
                                        "\x0B",
                                        "\xE2\x80\x8D",
                                        "\xC7\x85",
                                        "\xCA\xB0",
                                        "\xE3\x80\x82",
                                        "\xEF\xBC\x88",
                                        "\xED\x95\x9C",
                                        "#a",
                                        std::string(1, '\0'),
                                        "\xF0\x9F\x98\x80"};
  return parts;
}

std::string RandomText(std::mt19937& random) {
  std::string text;
  for (int n = random() % 30; n > 0; --n) text += Parts()[random() % Parts().size()];
  return text;
}

TEST(PublishedRegexTest, Pcre2FindsWhatOnigurumaFinds) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int num_own = 0;
  for (const std::string& source : PublishedRegexes()) {
    num_own += OwnFormOf(source).has_value();
    const auto own = MakeRegexPattern(source).value(), theirs = CompileRegex(source).value();
    for (int i = 0; i < 500; ++i) {
      const std::string text = RandomText(random);
      std::vector<TextMatch> found, wanted;
      own->FindAll(text, &found);
      theirs->FindAll(text, &wanted);
      ASSERT_EQ(found, wanted) << source << " in " << ::testing::PrintToString(text);
    }
  }
  EXPECT_GE(num_own, 15);
}

TEST(NamedPreTokenizerTest, WordsTileAnyText) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (const NamedPreTokenizer& named : NamedPreTokenizers()) {
    const PreTokenizer pre = Made(PreTokenizerFromName(named.name).value());
    for (int i = 0; i < 100; ++i) {
      const std::string text = RandomText(random);
      std::string joined;
      for (const std::string& word : TextsOf(pre.Split(text, true))) {
        EXPECT_FALSE(word.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text) << named.name;
    }
  }
}

TEST(NamedPreTokenizerTest, AMebibyteOfOneCharacterStaysWithinTheMatchersLimits) {
  for (const NamedPreTokenizer& named : NamedPreTokenizers()) {
    const PreTokenizer pre = Made(PreTokenizerFromName(named.name).value());
    for (const char* part :
         {" ", "\n", "\r", "a", "A", "aB", "!", "'", "7", " \n", "\xE4\xB8\xAD"}) {
      std::string text;
      while (text.size() < size_t{1} << 20) text += part;
      text += "x";
      size_t size = 0;
      for (const Words::Word& word : pre.Split(text, true).words) size += word.text.size();
      EXPECT_EQ(size, text.size()) << named.name << " " << part;
    }
  }
}

TEST(PreTokenizerTest, NothingLeavesTextsWhole) {
  EXPECT_THAT(Split(nullptr, "a b"), ElementsAre("a b"));
  EXPECT_THAT(Split(nullptr, ""), ElementsAre());
}

// The right words of all these are those of `tokenizers` 0.23.3.
TEST(PreTokenizerTest, SplitsDoWithMatchesWhatTheBehaviorSays) {
  const char* text = "--a-b--";
  EXPECT_THAT(Split(Regex("-", "Removed"), text), ElementsAre("a", "b"));
  EXPECT_THAT(Split(Regex("-", "Isolated"), text), ElementsAre("-", "-", "a", "-", "b", "-", "-"));
  EXPECT_THAT(Split(Regex("-", "MergedWithPrevious"), text),
              ElementsAre("-", "-", "a-", "b-", "-"));
  EXPECT_THAT(Split(Regex("-", "MergedWithNext"), text), ElementsAre("-", "-a", "-b", "-", "-"));
  EXPECT_THAT(Split(Regex("-", "Contiguous"), text), ElementsAre("--", "a", "-", "b", "--"));
  EXPECT_THAT(Split(Regex("-", "Removed", true), text), ElementsAre("-", "-", "-", "-", "-"));
  EXPECT_THAT(Split(Regex("(?=b)", "Isolated"), "abb"), ElementsAre("a", "b", "b"));
}

TEST(PreTokenizerTest, StepsFollowEachOther) {
  const json chain = {{"type", "Sequence"},
                      {"pretokenizers",
                       {{{"type", "WhitespaceSplit"}},
                        {{"type", "Punctuation"}},
                        {{"type", "Digits"}, {"individual_digits", false}}}}};
  EXPECT_THAT(Split(chain, " a12.5\t b!? "), ElementsAre("a", "12", ".", "5", "b", "!", "?"));
  EXPECT_THAT(Split({{"type", "Whitespace"}}, "a_1, b"), ElementsAre("a_1", ",", "b"));
}

TEST(PreTokenizerTest, MetaspaceWritesSpacesAndPutsOneFirst) {
  const auto metaspace = [](const char* scheme, bool split) {
    return json{{"type", "Metaspace"},
                {"replacement", "\xE2\x96\x81"},
                {"prepend_scheme", scheme},
                {"split", split}};
  };
  const std::string s = "\xE2\x96\x81";
  EXPECT_THAT(Split(metaspace("always", true), "a  b"), ElementsAre(s + "a", s, s + "b"));
  EXPECT_THAT(Split(metaspace("always", false), " a"), ElementsAre(s + "a"));
  EXPECT_THAT(Split(metaspace("never", true), "a b"), ElementsAre("a", s + "b"));
  EXPECT_THAT(Split(metaspace("first", false), "a"), ElementsAre(s + "a"));
  EXPECT_THAT(Split(metaspace("first", false), "a", /*begins_text=*/false), ElementsAre("a"));
  json old = {{"type", "Metaspace"}, {"replacement", s}, {"add_prefix_space", false}};
  EXPECT_THAT(Split(old, "a"), ElementsAre("a"));
}

TEST(PreTokenizerTest, ByteLevelMayPutASpaceFirst) {
  const json step = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"use_regex", true}};
  EXPECT_THAT(Split(step, "a b"), ElementsAre(" a", " b"));
  EXPECT_THAT(Split(step, " a"), ElementsAre(" a"));
  EXPECT_TRUE(Made(step).byte_level());
}

struct BadPreTokenizer {
  const char* expected;
  const char* json;
};

TEST(PreTokenizerTest, NamesWhatItRefuses) {
  const BadPreTokenizer cases[] = {
      {"pre_tokenizer: type \"BertPreTokenizer\" is not supported",
       R"({"type": "BertPreTokenizer"})"},
      {"pretokenizers[1]: type \"X\"",
       R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "X"}]})"},
      {"pretokenizers is no list", R"({"type": "Sequence", "pretokenizers": 3})"},
      {"Digits behind ByteLevel",
       R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})"},
      {"\"limit\" is not known", R"({"type": "Digits", "limit": 3})"},
      {"behavior \"Glued\"",
       R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Glued"})"},
      {"missing key \"pattern\"", R"({"type": "Split", "behavior": "Isolated"})"},
      {"String of 0 bytes",
       R"({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated"})"},
      {"pattern: regular expression \"(a\": end pattern with unmatched parenthesis",
       R"({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"})"},
      {"replacement is not one character", R"({"type": "Metaspace", "replacement": "ab"})"},
      {"prepend_scheme \"last\"",
       R"({"type": "Metaspace", "replacement": "_", "prepend_scheme": "last"})"},
      {"missing key \"type\"", "{}"},
      {"expected a JSON object", "[]"},
  };
  for (const BadPreTokenizer& c : cases) {
    const auto status = PreTokenizer::Make(json::parse(c.json), "pre_tokenizer").status();
    EXPECT_FALSE(status.ok()) << c.json;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.expected));
    EXPECT_THAT(std::string(status.message()), HasSubstr("pre_tokenizer"));
  }
}

}  // namespace
}  // namespace pregate
