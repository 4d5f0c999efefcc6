// Prints random schemas and texts that their masks allowed to the end, one JSON object a line:
//   {"schema": SCHEMA, "text": TEXT}
// usage: grammar_driver SCHEMAS SEED
#include <cstdlib>
#include <iostream>
#include <random>

#include "common/grammar/constraint.h"
#include "common/grammar/testing/random_schema.h"

namespace pregate {
namespace {

void Print(int schemas, uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::vector<std::string> vocabulary = RandomVocabulary(random, 900);
  const auto end = static_cast<TokenId>(vocabulary.size()) - 1;
  const auto trie = std::make_shared<TokenTrie>(vocabulary, std::vector<TokenId>{end});
  for (int i = 0; i < schemas; ++i) {
    const Schema schema = RandomSchema(random);
    const auto grammar = CompileConstraint(JsonSchemaConstraint{schema.dump()}, trie);
    if (!grammar.ok()) continue;
    const RandomText walk = WalkRandomly(Matcher(*grammar), vocabulary, 200, random);
    if (!walk.ended) continue;
    std::cout << Schema({{"schema", schema}, {"text", walk.text}}).dump() << "\n";
  }
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  pregate::Print(std::atoi(argv[1]), std::strtoull(argv[2], nullptr, 10));
  return 0;
}
