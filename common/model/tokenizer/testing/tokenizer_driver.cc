// Answers questions about tokenizers, one JSON object a line from stdin to stdout, so that tests in
// other languages compare with them:
//   {"dir": DIR, "texts": [TEXT, ...], "ids": [[ID, ...], ...]}
//   -> {"size": N, "ids": [[ID, ...], ...], "texts": [TEXT, ...], "streamed": [[PIECE, ...], ...]}
//   {"dir": DIR, "conversations": [CONVERSATION, ...]}
//   -> {"ids": [[ID, ...] or MESSAGE, ...]}
//   {"template": SOURCE or {NAME: SOURCE}, "tokens": {NAME: TEXT}, "conversations": [...]}
//   -> {"runs": [[[TEXT, IS_TEMPLATE], ...] or MESSAGE, ...]}
//   or {"error": MESSAGE}
// "now" beside conversations is the time, in seconds since 1970.
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tokenizer_chat.h"
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

// Each conversation through `apply`, which gives JSON.
template <typename Apply>
json AllConversations(const json& question, Apply apply) {
  const absl::Time now = absl::FromUnixSeconds(question.value("now", int64_t{0}));
  json answers = json::array();
  for (const json& source : question.at("conversations")) {
    // As a text: objects of JSON here do not keep their keys' order.
    const auto conversation = ParseConversation(source.get<std::string>(), "conversation", now);
    const absl::StatusOr<json> answer =
        conversation.ok() ? apply(*conversation) : absl::StatusOr<json>(conversation.status());
    answers.push_back(answer.ok() ? *answer : json(std::string(answer.status().message())));
  }
  return answers;
}

absl::StatusOr<json> Runs(const ChatTemplates& templates, const Conversation& conversation) {
  ASSIGN_OR_RETURN(const MarkedText text, templates.Render(conversation));
  json runs = json::array();
  size_t begin = 0;
  for (const MarkedText::Run& run : text.runs()) {
    runs.push_back({text.bytes().substr(begin, run.end - begin), run.is_template});
    begin = run.end;
  }
  return runs;
}

json RenderAll(const json& question) {
  const json& source = question.at("template");
  std::map<std::string, std::string> named;
  if (source.is_object()) {
    named = source.get<std::map<std::string, std::string>>();
  } else {
    named["default"] = source.get<std::string>();
  }
  const ChatTemplates templates(named,
                                question.value("tokens", std::map<std::string, std::string>()));
  return {{"runs", AllConversations(question, [&](const Conversation& conversation) {
             return Runs(templates, conversation);
           })}};
}

json ApplyAll(const Tokenizer& tokenizer, const json& question) {
  return {{"ids", AllConversations(question, [&](const Conversation& c) -> absl::StatusOr<json> {
             ASSIGN_OR_RETURN(const std::vector<TokenId> ids, tokenizer.ApplyConversation(c));
             return json(ids);
           })}};
}

json Answer(const json& question) {
  if (question.contains("template")) return RenderAll(question);
  const auto tokenizer = LoadTokenizer(question.at("dir").get<std::string>());
  if (!tokenizer.ok()) return {{"error", std::string(tokenizer.status().message())}};
  if (question.contains("conversations")) return ApplyAll(**tokenizer, question);
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
