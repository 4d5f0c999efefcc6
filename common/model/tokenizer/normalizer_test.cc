#include "common/model/tokenizer/normalizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string Normalise(const json& value, std::string_view text) {
  const auto made = Normalizer::Make(value, "normalizer");
  EXPECT_TRUE(made.ok()) << made.status();
  return made->Normalise(text);
}
std::string NormaliseBy(const char* type, std::string_view text) {
  return Normalise({{"type", type}}, text);
}

// The right texts of all these are those of `tokenizers` 0.23.3.
TEST(NormalizerTest, UnicodesForms) {
  const std::string composed = "\xC3\xA9", decomposed = "e\xCC\x81";  // U+00E9
  EXPECT_EQ(NormaliseBy("NFC", decomposed), composed);
  EXPECT_EQ(NormaliseBy("NFD", composed), decomposed);
  EXPECT_EQ(NormaliseBy("NFC", "\xEF\xAC\x81"), "\xEF\xAC\x81");  // the ligature fi
  EXPECT_EQ(NormaliseBy("NFKC", "\xEF\xAC\x81"), "fi");
  EXPECT_EQ(NormaliseBy("NFKD", composed + "\xEF\xAC\x81"), decomposed + "fi");
  EXPECT_EQ(NormaliseBy("NFKC", std::string("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(NormaliseBy("NFKC", "\xEF\xB7\xBA").size(), 33u);  // the longest of all
}

TEST(NormalizerTest, CasesAccentsAndEnds) {
  EXPECT_EQ(NormaliseBy("Lowercase", "AB\xC3\x89\xCE\xA3"), "ab\xC3\xA9\xCF\x83");
  EXPECT_EQ(NormaliseBy("Lowercase", "\xC4\xB0"), "i\xCC\x87");
  EXPECT_EQ(NormaliseBy("StripAccents", "e\xCC\x81\xC3\xA9"), "e\xC3\xA9");
  const json left = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}};
  const json right = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
  EXPECT_EQ(Normalise(left, " \xE3\x80\x80 a "), "a ");
  EXPECT_EQ(Normalise(right, " a \n"), " a");
  EXPECT_EQ(Normalise(left, "  "), "");
}

TEST(NormalizerTest, ChainsOfReplacements) {
  const json spaces = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "_"}};
  const json runs = {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}};
  const json first = {{"type", "Prepend"}, {"prepend", "_"}};
  EXPECT_EQ(Normalise({{"type", "Sequence"}, {"normalizers", {first, runs, spaces}}}, "a  b c"),
            "_a_b_c");
  EXPECT_EQ(Normalise(nullptr, "a b"), "a b");
}

std::string Unit(uint32_t unit) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(unit >> 8 * i));
  return bytes;
}

// One rule: "a" becomes "bcd".
std::string OneRule() {
  constexpr uint32_t kChild = 1 ^ 'a', kLeaf = kChild ^ 1;
  std::string trie;
  for (uint32_t i = 0; i <= kLeaf; ++i) {
    trie += Unit(i == 0 ? 1u << 10 : i == kChild ? 'a' | 1u << 8 | 1u << 10 : 0);
  }
  return Unit(static_cast<uint32_t>(trie.size())) + trie + std::string("bcd\0", 4);
}

// Of a cluster of up to five bytes the shortest rule for its beginning stands for all of it.
TEST(NormalizerTest, PrecompiledRulesAreAppliedToClusters) {
  const json step = {{"type", "Precompiled"},
                     {"precompiled_charsmap", absl::Base64Escape(OneRule())}};
  EXPECT_EQ(Normalise(step, "xay"), "xbcdy");
  EXPECT_EQ(Normalise(step, "a\xCC\x81x"), "bcdx");
  EXPECT_EQ(Normalise(step, "a\xCC\x81\xCC\x81\xCC\x81"), "bcd\xCC\x81\xCC\x81\xCC\x81");
}

TEST(NormalizerTest, NamesWhatItRefuses) {
  const auto error = [](const char* text) {
    return std::string(Normalizer::Make(json::parse(text), "normalizer").status().message());
  };
  EXPECT_THAT(error(R"({"type": "BertNormalizer"})"),
              HasSubstr("normalizer: type \"BertNormalizer\" is not supported"));
  EXPECT_THAT(error(R"({"type": "NFC", "x": 1})"), HasSubstr("\"x\" is not known"));
  EXPECT_THAT(error(R"({"type": "Strip", "strip_left": 1})"), HasSubstr("\"strip_left\" is 1"));
  EXPECT_THAT(error(R"({"type": "Replace", "pattern": {"Regex": "x*"}, "content": ""})"),
              HasSubstr("matches an empty text"));
  EXPECT_THAT(error(R"({"type": "Precompiled", "precompiled_charsmap": "*"})"),
              HasSubstr("no base64"));
  EXPECT_THAT(error(R"({"type": "Precompiled", "precompiled_charsmap": "AAAA"})"),
              HasSubstr("precompiled_charsmap of 3 bytes"));
  EXPECT_THAT(error(R"({"type": "Sequence", "normalizers": [
                  {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaa"},
                  {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaaaa"}]})"),
              HasSubstr("normalizer may lengthen a text 144 times, at most 128"));
}

}  // namespace
}  // namespace pregate
