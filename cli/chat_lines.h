// What a line typed into `pregate chat` means, and the conversation that lines add up to. No I/O.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::cli {

struct ChatLine {
  enum Kind { kNothing, kMessage, kQuit, kReset, kSystem, kSeed, kHelp, kMistake };
  Kind kind = kNothing;
  std::string text;              // of kMessage and kSystem; of kMistake: what is wrong
  std::optional<uint64_t> seed;  // of kSeed; nothing: drawn by the server again
};

// "/word rest" is a command, "//..." a message that begins with one '/', all else a message.
ChatLine ParseChatLine(absl::string_view line);

// The commands, one a line.
const char* ChatHelp();

// Not thread-safe.
class ChatHistory {
 public:
  // `system` empty: no system message.
  explicit ChatHistory(std::string system) : system_(std::move(system)) {}

  void SetSystem(std::string system) { system_ = std::move(system); }
  // Forgets questions and answers; the system message stays.
  void Reset() { turns_.clear(); }
  // All so far and then `question`: what the server answers.
  std::vector<ChatMessage> WithQuestion(const std::string& question) const;
  void Add(const std::string& question, const std::string& answer);
  bool empty() const { return turns_.empty(); }

 private:
  std::string system_;
  std::vector<ChatMessage> turns_;
};

// How many tokens an answer may have behind a conversation of `prompt_tokens`, at most
// `max_tokens` (0: no limit of one's own); nothing when the context is full.
std::optional<int32_t> AnswerRoom(int32_t prompt_tokens, int32_t context_tokens,
                                  int32_t max_tokens);

}  // namespace pregate::cli
