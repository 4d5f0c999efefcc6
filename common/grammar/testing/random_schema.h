// Random schemas, vocabularies and texts for tests of what AddJsonSchema understands.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "common/grammar/matcher.h"
#include "common/grammar/schema_keywords.h"

namespace pregate {

// With "$defs" that may refer to each other and themselves.
Schema RandomSchema(std::mt19937_64& random);

// All single bytes, pieces of JSON, random pairs of those, and a last token that ends a text.
std::vector<std::string> RandomVocabulary(std::mt19937_64& random, int num_pieces);

// A text by random tokens that the matcher's masks allow; of those that close something rather one
// than another. `ended`: by the token that ends a text, within `tokens_max`.
struct RandomText {
  std::string text;
  bool ended = false;
};
RandomText WalkRandomly(Matcher matcher, const std::vector<std::string>& vocabulary, int tokens_max,
                        std::mt19937_64& random);

}  // namespace pregate
