#include "cli/chat_lines.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace pregate::cli {
namespace {

ChatLine Mistake(std::string what) { return {ChatLine::kMistake, std::move(what), std::nullopt}; }

ChatLine ParseSeed(absl::string_view argument) {
  ChatLine line{ChatLine::kSeed};
  if (argument.empty()) return line;
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(argument, &seed)) {
    return Mistake(absl::StrCat("/seed: '", argument, "' is not a whole number"));
  }
  line.seed = seed;
  return line;
}

ChatLine ParseCommand(absl::string_view word, absl::string_view argument) {
  if (word == "system") return {ChatLine::kSystem, std::string(argument), std::nullopt};
  if (word == "seed") return ParseSeed(argument);
  const std::pair<absl::string_view, ChatLine::Kind> bare[] = {
      {"quit", ChatLine::kQuit}, {"reset", ChatLine::kReset}, {"help", ChatLine::kHelp}};
  for (const auto& [name, kind] : bare) {
    if (word != name) continue;
    if (!argument.empty()) return Mistake(absl::StrCat("/", name, " takes no argument"));
    return {kind};
  }
  return Mistake(absl::StrCat("unknown command '/", word, "'; /help lists them"));
}

}  // namespace

ChatLine ParseChatLine(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  if (line.empty()) return {};
  if (!absl::ConsumePrefix(&line, "/") || absl::StartsWith(line, "/")) {
    return {ChatLine::kMessage, std::string(line), std::nullopt};
  }
  const size_t end = std::min(line.find_first_of(" \t"), line.size());
  return ParseCommand(line.substr(0, end), absl::StripAsciiWhitespace(line.substr(end)));
}

const char* ChatHelp() {
  return "/reset        forget questions and answers\n"
         "/system TEXT  say how to answer, from the next question on; without TEXT: nothing\n"
         "/seed N       same seed, same answer; without N: drawn for each answer\n"
         "/help         this\n"
         "/quit         end (so does Ctrl-D); Ctrl-C ends the answer only\n"
         "//...         a message that begins with '/'\n";
}

std::vector<ChatMessage> ChatHistory::WithQuestion(const std::string& question) const {
  std::vector<ChatMessage> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), turns_.begin(), turns_.end());
  all.push_back({"user", question});
  return all;
}

void ChatHistory::Add(const std::string& question, const std::string& answer) {
  turns_.push_back({"user", question});
  turns_.push_back({"assistant", answer});
}

std::optional<int32_t> AnswerRoom(int32_t prompt_tokens, int32_t context_tokens,
                                  int32_t max_tokens) {
  const int32_t room = context_tokens - prompt_tokens;
  if (room < 1) return std::nullopt;
  return max_tokens > 0 ? std::min(room, max_tokens) : room;
}

}  // namespace pregate::cli
