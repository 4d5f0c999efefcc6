// Answers questions about tokenizers, one JSON object a line from stdin to stdout, so that tests in
// other languages compare with them:
//   {"dir": DIR, "texts": [TEXT, ...], "ids": [[ID, ...], ...]}
//   -> {"size": N, "ids": [[ID, ...], ...], "texts": [TEXT, ...], "streamed": [[PIECE, ...], ...]}
//   or {"error": MESSAGE}
#include <iostream>
#include <string>
#include <vector>

#include "common/model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using nlohmann::json;

std::vector<std::string> Stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  IncrementalDecoder decoder(tokenizer, /*starts_text=*/true);
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.push_back(decoder.Add(id));
  pieces.push_back(decoder.Finish());
  return pieces;
}

json Answer(const json& question) {
  const auto tokenizer = LoadTokenizer(question.at("dir").get<std::string>());
  if (!tokenizer.ok()) return {{"error", std::string(tokenizer.status().message())}};
  json answer = {{"size", (*tokenizer)->vocab_size()},
                 {"ids", json::array()},
                 {"texts", json::array()},
                 {"streamed", json::array()}};
  for (const json& text : question.at("texts")) {
    answer["ids"].push_back((*tokenizer)->Encode(text.get<std::string>()));
  }
  for (const json& list : question.at("ids")) {
    const auto ids = list.get<std::vector<TokenId>>();
    answer["texts"].push_back((*tokenizer)->Decode(ids));
    answer["streamed"].push_back(Stream(**tokenizer, ids));
  }
  return answer;
}

}  // namespace
}  // namespace pregate

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << pregate::Answer(nlohmann::json::parse(line)).dump() << std::endl;
  }
}
