#include "common/model/tokenizer/chat_ml.h"

#include <algorithm>
#include <utility>

#include "absl/types/span.h"
#include "common/model/tokenizer/jinja_parts.h"

namespace pregate {
namespace {

using Kind = JinjaPart::Kind;
using Parts = absl::Span<const JinjaPart>;

constexpr std::string_view kSystemTurnOpen = "<|im_start|>system\n";
constexpr std::string_view kTurnClose = "<|im_end|>\n";

bool Take(std::initializer_list<JinjaPart> expected, Parts* parts) {
  if (parts->size() < expected.size() ||
      !std::equal(expected.begin(), expected.end(), parts->begin())) {
    return false;
  }
  parts->remove_prefix(expected.size());
  return true;
}

// The default system message, where one is next; false where something else is.
bool TakeDefaultSystem(Parts* parts, std::optional<std::string>* system) {
  if (!Take({{Kind::kTag, "if loop.first and messages[0].role != 'system'"}}, parts)) return true;
  if (parts->empty() || parts->front().kind != Kind::kText) return false;
  std::string_view text = parts->front().text;
  parts->remove_prefix(1);
  if (!text.starts_with(kSystemTurnOpen) || !text.ends_with(kTurnClose) ||
      text.size() < kSystemTurnOpen.size() + kTurnClose.size()) {
    return false;
  }
  text.remove_prefix(kSystemTurnOpen.size());
  text.remove_suffix(kTurnClose.size());
  if (text.find("<|") != std::string_view::npos) return false;
  *system = std::string(text);
  return Take({{Kind::kTag, "endif"}}, parts);
}

}  // namespace

std::optional<ChatMl> ParseChatMl(std::string_view chat_template) {
  const auto parsed = ParseJinjaParts(chat_template);
  if (!parsed) return std::nullopt;
  Parts parts = *parsed;
  ChatMl chat;
  // Where callers do not say, there is no generation prompt; callers here always say.
  Take({{Kind::kTag, "if not add_generation_prompt is defined"},
        {Kind::kTag, "set add_generation_prompt = false"},
        {Kind::kTag, "endif"}},
       &parts);
  const bool is_chat_ml = Take({{Kind::kTag, "for message in messages"}}, &parts) &&
                          TakeDefaultSystem(&parts, &chat.default_system) &&
                          Take({{Kind::kText, "<|im_start|>"},
                                {Kind::kValue, "message.role"},
                                {Kind::kText, "\n"},
                                {Kind::kValue, "message.content"},
                                {Kind::kText, "<|im_end|>\n"},
                                {Kind::kTag, "endfor"},
                                {Kind::kTag, "if add_generation_prompt"},
                                {Kind::kText, "<|im_start|>assistant\n"},
                                {Kind::kTag, "endif"}},
                               &parts) &&
                          parts.empty();
  return is_chat_ml ? std::optional(std::move(chat)) : std::nullopt;
}

}  // namespace pregate
