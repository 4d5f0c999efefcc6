// Random schemas against a plain validator, and masks against a plain reading of the grammar.
#include <cstdlib>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/grammar/constraint.h"
#include "common/grammar/testing/random_schema.h"
#include "common/grammar/testing/reference_matcher.h"
#include "common/grammar/testing/schema_validator.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

uint64_t Seed() {
  const char* given = std::getenv("PREGATE_TEST_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("PREGATE_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

std::shared_ptr<const TokenTrie> TrieOf(const std::vector<std::string>& vocabulary) {
  const auto end = static_cast<TokenId>(vocabulary.size()) - 1;
  return std::make_shared<TokenTrie>(vocabulary, std::vector<TokenId>{end});
}

bool IsSet(const std::vector<uint32_t>& mask, size_t id) { return mask[id / 32] >> (id % 32) & 1; }

TEST(GrammarPropertyTest, EveryFinishedTextIsValid) {
  std::mt19937_64 random(Seed());
  const std::vector<std::string> vocabulary = RandomVocabulary(random, 900);
  const auto trie = TrieOf(vocabulary);
  int schemas = 0, texts = 0, ended = 0, refused = 0;
  while (schemas < 1000) {
    const Schema schema = RandomSchema(random);
    SCOPED_TRACE(schema.dump());
    const auto grammar = CompileConstraint(JsonSchemaConstraint{schema.dump()}, trie);
    if (!grammar.ok()) {
      ASSERT_EQ(grammar.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_LT(++refused, 300) << grammar.status();
      continue;
    }
    ++schemas;
    for (int i = 0; i < 4; ++i) {
      ++texts;
      const RandomText walk = WalkRandomly(Matcher(*grammar), vocabulary, 200, random);
      if (!walk.ended) continue;
      ++ended;
      const Schema value = Schema::parse(walk.text, nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(value.is_discarded()) << walk.text;
      ASSERT_TRUE(IsValid(value, schema, schema)) << walk.text;
    }
  }
  std::printf("%d schemas, %d refused, %d of %d texts ended\n", schemas, refused, ended, texts);
  EXPECT_GT(ended, texts / 2);
}

// Each token, allowed or not, as the grammar's own expressions say.
void ExpectMasksOf(const Constraint& constraint, const std::vector<std::string>& vocabulary,
                   const std::shared_ptr<const TokenTrie>& trie, int tokens_max,
                   std::mt19937_64& random) {
  const auto grammar = GrammarOf(constraint);
  const auto compiled = CompileConstraint(constraint, trie);
  if (!compiled.ok()) return;
  ReferenceMatcher reference(*grammar);
  Matcher matcher(*compiled);
  std::vector<uint32_t> mask(trie->mask_words());
  std::string text;
  for (int i = 0; i < tokens_max; ++i) {
    matcher.FillMask(absl::MakeSpan(mask));
    std::vector<size_t> allowed;
    for (size_t id = 0; id + 1 < vocabulary.size(); ++id) {
      const bool begins = reference.Read(text + vocabulary[id]).begins;
      ASSERT_EQ(IsSet(mask, id), begins) << "behind " << text << ": " << vocabulary[id];
      Matcher copy = matcher;
      ASSERT_EQ(copy.Advance(vocabulary[id]), begins);
      if (begins) allowed.push_back(id);
    }
    const bool complete = reference.Read(text).complete;
    ASSERT_EQ(matcher.CanEnd(), complete) << text;
    ASSERT_EQ(IsSet(mask, vocabulary.size() - 1), complete) << text;
    ASSERT_EQ(matcher.MustEnd(), allowed.empty()) << text;
    if (allowed.empty()) return;
    const std::string& token = vocabulary[allowed[random() % allowed.size()]];
    ASSERT_TRUE(matcher.Advance(token));
    text += token;
  }
}

TEST(GrammarPropertyTest, MasksAllowExactlyWhatTheGrammarDoes) {
  std::mt19937_64 random(Seed());
  for (int i = 0; i < 40 && !testing::Test::HasFatalFailure(); ++i) {
    const std::vector<std::string> vocabulary = RandomVocabulary(random, 330);
    const Schema schema = RandomSchema(random);
    SCOPED_TRACE(schema.dump());
    ExpectMasksOf(JsonSchemaConstraint{schema.dump()}, vocabulary, TrieOf(vocabulary), 12, random);
    ExpectMasksOf(MarkedJsonConstraint{"{\"", "}", schema.dump()}, vocabulary, TrieOf(vocabulary),
                  12, random);
  }
}

std::string RandomRegex(std::mt19937_64& random, int depth) {
  static constexpr const char* kAtoms[] = {"a",        "b", "\\d", "[ab]",    "[^a\"]",
                                           "\xC3\xA9", ".", "\\n", "[0-9a-f]"};
  static constexpr const char* kCounts[] = {"*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"};
  std::string out;
  for (uint64_t n = 1 + random() % 3; n > 0; --n) {
    const bool group = depth < 3 && random() % 3 == 0;
    out += group ? absl::StrCat("(", RandomRegex(random, depth + 1), ")")
                 : std::string(kAtoms[random() % std::size(kAtoms)]);
    if (random() % 3 == 0) out += kCounts[random() % std::size(kCounts)];
  }
  return random() % 4 == 0 ? absl::StrCat(out, "|", RandomRegex(random, depth + 1)) : out;
}

TEST(GrammarPropertyTest, RegularExpressionsToo) {
  std::mt19937_64 random(Seed());
  for (int i = 0; i < 80 && !testing::Test::HasFatalFailure(); ++i) {
    const std::vector<std::string> vocabulary = RandomVocabulary(random, 330);
    const std::string regex = RandomRegex(random, 0);
    SCOPED_TRACE(regex);
    ExpectMasksOf(RegexConstraint{regex}, vocabulary, TrieOf(vocabulary), 8, random);
  }
}

// Far from their ends such repetitions share their masks (Automaton::Alike).
TEST(GrammarPropertyTest, LongRepetitionsToo) {
  std::mt19937_64 random(Seed());
  for (int i = 0; i < 4 && !testing::Test::HasFatalFailure(); ++i) {
    const std::vector<std::string> vocabulary = RandomVocabulary(random, 330);
    const int low = static_cast<int>(random() % 60),
              high = low + 40 + static_cast<int>(random() % 20);
    const std::string counts = absl::StrCat("{", low, ",", high, "}");
    const std::string regex = absl::StrCat(i % 2 ? "[a-r]" : "(ab?|\xe9)", counts, "o?r?");
    SCOPED_TRACE(regex);
    ExpectMasksOf(RegexConstraint{regex}, vocabulary, TrieOf(vocabulary), 110, random);
    const Schema schema = {{"maxLength", 33 + i}, {"minLength", i}};
    ExpectMasksOf(JsonSchemaConstraint{schema.dump()}, vocabulary, TrieOf(vocabulary), 12, random);
  }
}

TEST(GrammarPropertyTest, ARollbackLeavesNothing) {
  std::mt19937_64 random(Seed());
  const std::vector<std::string> vocabulary = RandomVocabulary(random, 500);
  const auto trie = TrieOf(vocabulary);
  for (int i = 0; i < 100; ++i) {
    const auto grammar = CompileConstraint(JsonObjectConstraint{}, trie);
    Matcher matcher(*grammar);
    const RandomText walk = WalkRandomly(matcher, vocabulary, 1 + int(random() % 40), random);
    const size_t kept = random() % (walk.text.size() + 1);
    ASSERT_TRUE(matcher.Advance(walk.text.substr(0, kept)));
    std::vector<uint32_t> before(trie->mask_words()), after(trie->mask_words());
    matcher.FillMask(absl::MakeSpan(before));
    ASSERT_TRUE(matcher.Advance(walk.text.substr(kept)));
    ASSERT_FALSE(matcher.Advance("\x01"));
    matcher.Rollback(1);
    matcher.FillMask(absl::MakeSpan(after));
    ASSERT_EQ(before, after);
  }
}

}  // namespace
}  // namespace pregate
