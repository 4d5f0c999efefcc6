#include "common/grammar/json_schema.h"

#include <string>
#include <vector>

#include "common/grammar/constraint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const TokenTrie> Bytes() {
  static const auto& trie = *new std::shared_ptr<const TokenTrie>([] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    tokens.emplace_back();
    return std::make_shared<TokenTrie>(tokens, std::vector<TokenId>{256});
  }());
  return trie;
}

std::string ErrorOf(const std::string& schema) {
  return std::string(CompileConstraint(JsonSchemaConstraint{schema}, Bytes()).status().message());
}

bool Accepts(const Constraint& constraint, std::string_view text) {
  const auto grammar = CompileConstraint(constraint, Bytes());
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  if (!grammar.ok()) return false;
  Matcher matcher(*grammar);
  return matcher.Advance(text) && matcher.CanEnd();
}

bool Allows(const std::string& schema, std::string_view text) {
  return Accepts(JsonSchemaConstraint{schema}, text);
}

TEST(JsonSchemaTest, MembersComeInTheirOrder) {
  const std::string schema =
      R"({"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}},
          "required": ["b"]})";
  EXPECT_TRUE(Allows(schema, R"({"b": 1})"));
  EXPECT_TRUE(Allows(schema, R"({"b":1,"a":"x"})"));
  EXPECT_TRUE(Allows(schema, "{\n  \"b\": 1,\n  \"a\": \"x\"\n}"));
  EXPECT_FALSE(Allows(schema, R"({"a": "x"})"));
  EXPECT_FALSE(Allows(schema, R"({"a": "x", "b": 1})"));
  EXPECT_FALSE(Allows(schema, R"({"b": 1, "c": 2})"));
  EXPECT_FALSE(Allows(schema, R"({"b": 1.5})"));
  EXPECT_FALSE(Allows(schema, R"({ })"));
}

TEST(JsonSchemaTest, OtherMembersHaveOtherNames) {
  const std::string schema =
      R"({"properties": {"ab": {"type": "integer"}}, "additionalProperties": {"type": "null"}})";
  EXPECT_TRUE(Allows(schema, R"({"ab": 1, "a": null, "abc": null, "": null})"));
  EXPECT_FALSE(Allows(schema, R"({"ab": null})"));
  EXPECT_FALSE(Allows(schema, R"({"\u0061b": null})"));
}

TEST(JsonSchemaTest, ReferencesRecur) {
  const std::string schema =
      R"({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties":
          {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
          "required": ["v", "next"]}}})";
  EXPECT_TRUE(Allows(schema, R"({"v": 1, "next": {"v": 2, "next": null}})"));
  EXPECT_FALSE(Allows(schema, R"({"v": 1, "next": {"v": 2}})"));
}

TEST(JsonSchemaTest, BoundsAreExact) {
  const std::string integer = R"({"type": "integer", "minimum": -17, "exclusiveMaximum": 230})";
  for (int i = -1100; i <= 1100; ++i) {
    EXPECT_EQ(Allows(integer, std::to_string(i)), -17 <= i && i < 230) << i;
  }
  const std::string number = R"({"type": "number", "exclusiveMinimum": -2, "maximum": 10})";
  for (const char* in : {"-1", "-1.999999", "0", "0.5", "-0.5", "9.999999", "10", "10.0", "3.25"}) {
    EXPECT_TRUE(Allows(number, in)) << in;
  }
  for (const char* out : {"-2", "-2.0", "10.000001", "11", "-3.5", "100", "01", "-0"}) {
    EXPECT_FALSE(Allows(number, out)) << out;
  }
}

TEST(JsonSchemaTest, StringsAreCountedInCharacters) {
  const std::string schema = R"({"type": "string", "minLength": 2, "maxLength": 3})";
  EXPECT_FALSE(Allows(schema, "\"\xC3\xA9\""));
  EXPECT_TRUE(Allows(schema, "\"\xC3\xA9\xF0\x9F\x98\x80\""));
  EXPECT_TRUE(Allows(schema, R"("\u00e9\ud83d\ude00\n")"));
  EXPECT_FALSE(Allows(schema, R"("abcd")"));
  EXPECT_FALSE(Allows(schema, R"("ab\ud83d")"));
}

TEST(JsonSchemaTest, PatternsAreSearchedForUnlessAnchored) {
  EXPECT_TRUE(Allows(R"({"pattern": "b+"})", R"("abbc")"));
  EXPECT_FALSE(Allows(R"({"pattern": "^b+$"})", R"("abbc")"));
  EXPECT_TRUE(Allows(R"({"pattern": "^\"\\n$"})", R"("\"\n")"));
}

TEST(JsonSchemaTest, WhatIsNotUnderstoodIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"properties": {"a/b": {"multipleOf": 2}}})", "/properties/a~1b/multipleOf"},
      {R"({"type": "array", "uniqueItems": true})", "/uniqueItems"},
      {R"({"not": {"type": "string"}})", "/not"},
      {R"({"patternProperties": {}})", "/patternProperties"},
      {R"({"items": [{"type": "string"}]})", "prefixItems"},
      {R"({"type": "strnig"})", "\"strnig\""},
      {R"({"$ref": "other.json"})", "/$ref"},
      {R"({"$ref": "#/$defs/x"})", "does not exist"},
      {R"({"$ref": "#"})", "allows no text"},
      {R"({"anyOf": [{"$ref": "#"}, {"type": "null"}]})", "recursion without a character"},
      {R"({"allOf": [{"$ref": "#"}]})", "in a circle"},
      {R"({"type": "number", "minimum": 0.5})", "/minimum"},
      {R"x({"type": "string", "pattern": "(?=a)"})x", "/pattern"},
      {R"({"type": "string", "maxLength": 1000000})", "/maxLength"},
      {R"({"type": "object", "required": ["a"], "additionalProperties": false})", "\"a\""},
      {R"({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "allows no text"},
      {R"({"enum": []})", "allows no text"},
      {R"([])", "expected a schema"},
      {R"({"a)", "malformed JSON"},
      {R"({"properties": {"a": {"$ref": "#", "required": ["b"]}}})", "leads back to itself"},
  };
  for (const auto& [schema, expected] : cases) {
    EXPECT_THAT(ErrorOf(schema), HasSubstr(expected)) << schema;
    EXPECT_THAT(ErrorOf(schema), HasSubstr("json_schema")) << schema;
  }
}

TEST(JsonSchemaTest, HostileSizesAreRefused) {
  EXPECT_THAT(ErrorOf(R"({"type": "array", "items": {"type": "array", "minItems": 30000,
              "items": {"pattern": "^(a|b){1000}$"}}})"),
              HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(R"({"pattern": "(a|b)*a(a|b){30}"})"), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(std::string(300000, ' ')), HasSubstr("at most"));
}

TEST(RegexTest, ReadsItsSubset) {
  const auto accepts = [](const char* regex, const char* text) {
    return Accepts(RegexConstraint{regex}, text);
  };
  EXPECT_TRUE(accepts("^(?:ab|c)+?[^x-z\\d]{2}\\.$", "abcQ!."));
  EXPECT_TRUE(accepts("(?P<year>\\d{4})-\\u00e9[\\]\\-a-]", "2024-\xC3\xA9-"));
  EXPECT_FALSE(accepts("a.c", "a\nc"));
  EXPECT_TRUE(accepts("a|b|", ""));
}

TEST(RegexTest, NamesTheRest) {
  const auto error = [](const char* regex) {
    return std::string(CompileConstraint(RegexConstraint{regex}, Bytes()).status().message());
  };
  EXPECT_THAT(error("a(?!b)"), HasSubstr("looking ahead"));
  EXPECT_THAT(error("(a)\\1"), HasSubstr("\\1 is not supported"));
  EXPECT_THAT(error("\\p{L}"), HasSubstr("\\p is not supported"));
  EXPECT_THAT(error("a{"), HasSubstr("byte 2"));
  EXPECT_THAT(error("(a"), HasSubstr("expected ')'"));
  EXPECT_THAT(error("a)"), HasSubstr("unmatched ')'"));
  EXPECT_THAT(error("a$b"), HasSubstr("'$' before the end"));
  EXPECT_THAT(error("[z-a]"), HasSubstr("descend"));
  EXPECT_THAT(error("a{99999}"), HasSubstr("repetitions"));
  EXPECT_THAT(error(std::string(100, '(').c_str()), HasSubstr("nested deeper"));
}

TEST(ConstraintTest, ChoicesAndObjects) {
  EXPECT_TRUE(Accepts(ChoiceConstraint{{"yes", "no", "not"}}, "not"));
  EXPECT_FALSE(Accepts(ChoiceConstraint{{"yes", "no"}}, "n"));
  EXPECT_FALSE(CheckConstraint(ChoiceConstraint{}).ok());
  EXPECT_TRUE(Accepts(JsonObjectConstraint{}, R"({"a": [1, {"b": null}], "c": "\u0041"})"));
  EXPECT_FALSE(Accepts(JsonObjectConstraint{}, "[]"));
}

// Which of two schemas it is shows only behind their children: each level has twice as many ways.
TEST(ConstraintTest, WhatIsAmbiguousWithoutEndIsHeldAllTheSame) {
  const std::string schema =
      R"({"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"$ref": "#/$defs/a"},
          {"$ref": "#/$defs/b"}]},
          "a": {"type": "object", "properties": {"c": {"type": "array",
              "items": {"$ref": "#/$defs/n"}}, "k": {"const": "a"}}, "required": ["c", "k"]},
          "b": {"type": "object", "properties": {"c": {"type": "array",
              "items": {"$ref": "#/$defs/n"}}, "k": {"const": "b"}}, "required": ["c", "k"]}}})";
  const auto grammar = CompileConstraint(JsonSchemaConstraint{schema}, Bytes());
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  Matcher matcher(*grammar);
  for (int depth = 0; depth < 40; ++depth) ASSERT_TRUE(matcher.Advance("{\"c\":[")) << depth;
  std::vector<uint32_t> mask(matcher.trie().mask_words());
  for (int i = 0; i < 2000 && !matcher.MustEnd(); ++i) {
    matcher.FillMask(absl::MakeSpan(mask));
    const auto allowed = [&](char c) { return mask[c / 32] >> (c % 32) & 1; };
    for (const char c : {']', '}', '"', ':', ',', 'c', 'k', 'b', 'a'}) {
      if (!allowed(c)) continue;
      ASSERT_TRUE(matcher.Advance(std::string(1, c)));
      break;
    }
  }
  EXPECT_TRUE(matcher.CanEnd());
}

TEST(ConstraintTest, AVocabularyWithoutABytesTokenNeverLeadsIntoADeadEnd) {
  // No token for 'b' alone: what has begun could not be finished.
  const std::vector<std::string> tokens = {"a", "ab", "c", ""};
  const auto trie = std::make_shared<TokenTrie>(tokens, std::vector<TokenId>{3});
  const auto grammar = CompileConstraint(RegexConstraint{"ab|ac"}, trie);
  ASSERT_TRUE(grammar.ok());
  Matcher matcher(*grammar);
  std::vector<uint32_t> mask(1);
  matcher.FillMask(absl::MakeSpan(mask));
  EXPECT_EQ(mask[0], 0b0001u);
  EXPECT_FALSE(CompileConstraint(RegexConstraint{"b"}, trie).ok());
}

}  // namespace
}  // namespace pregate
