// What the text of an answer must be: a JSON Schema, behind a first byte 'm' between marks in a free text;
// or behind 'r' a regular expression.
#include "common/grammar/constraint.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/grammar/testing/random_schema.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::constraint {
namespace {

struct Vocabulary {
  std::mt19937_64 random{1};
  std::vector<std::string> tokens = RandomVocabulary(random, 400);
  std::shared_ptr<const TokenTrie> trie = std::make_shared<TokenTrie>(
      tokens, std::vector<TokenId>{static_cast<TokenId>(tokens.size()) - 1});
};

Constraint ConstraintOf(std::string_view input) {
  if (input.substr(0, 1) == "r") return RegexConstraint{std::string(input.substr(1))};
  if (input.substr(0, 1) == "m") {
    return MarkedJsonConstraint{
        .begin = "<c>", .end = "</c>", .schema = std::string(input.substr(1))};
  }
  return JsonSchemaConstraint{std::string(input)};
}

// A text that the masks allow never comes to where nothing may follow.
bool Run(std::string_view input) {
  static const auto& vocabulary = *new Vocabulary;
  const auto grammar = CompileConstraint(ConstraintOf(input), vocabulary.trie);
  if (!grammar.ok()) return false;
  std::mt19937_64 random(input.size());
  Matcher matcher(*grammar);
  const RandomText walk = WalkRandomly(matcher, vocabulary.tokens, 40, random);
  PREGATE_CHECK(matcher.Advance(walk.text) && matcher.CanEnd() >= walk.ended);
  matcher.Rollback(1);
  return true;
}

const Registration registration({
    .name = "constraint",
    .seeds =
        [] {
          std::vector<std::string> seeds = {
              "r^(?:ab|c)+[^x-z\\d]{1,3}\\.\\u00e9$", "r(?P<a>\\w{2})|.*\\s?",
              R"({"type": ["object", "null"], "properties": {"a": {"minLength": 1, "maxLength": 3},
                 "b": {"$ref": "#/$defs/d"}, "c": {"prefixItems": [true, {"const": 1}],
                 "minItems": 1, "items": {"type": "number", "minimum": -2, "maximum": 7}}},
                 "required": ["a", "z"], "additionalProperties": {"format": "date-time"},
                 "$defs": {"d": {"allOf": [{"properties": {"n": {"$ref": "#/$defs/d"}}}, {"title": "x"}]}}})",
              R"({"anyOf": [{"pattern": "^a+"}, {"enum": [1, "x", {"k": []}]},
                 {"type": "integer", "exclusiveMinimum": 3}]})"};
          std::mt19937_64 random(7);
          for (int i = 0; i < 20; ++i) {
            const Schema schema = RandomSchema(random);
            if (Run(schema.dump())) seeds.push_back(schema.dump());
            if (Run("m" + schema.dump())) seeds.push_back("m" + schema.dump());
          }
          return seeds;
        },
    .run = Run,
    .mutate = MutateJson,
    .bytes_max = 2048,
});

}  // namespace
}  // namespace pregate::fuzz::constraint
