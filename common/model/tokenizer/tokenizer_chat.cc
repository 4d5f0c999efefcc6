#include "common/model/tokenizer/tokenizer_chat.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/hash.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/jinja/interpreter.h"
#include "common/model/tokenizer/jinja/parser.h"

namespace pregate {
namespace {

// Roles that templates know. One of them says which turn it is and is no text of the caller's: many
// templates spell a special token with it ("<|" + role + "|>").
constexpr std::string_view kRoles[] = {
    "assistant", "context", "developer",   "document", "documents", "environment",   "function",
    "ipython",   "model",   "observation", "system",   "tool",      "tool_response", "user"};

constexpr const char* kStopTexts[] = {"<|im_end|>",
                                      "<|endoftext|>",
                                      "<|eot_id|>",
                                      "<|eom_id|>",
                                      "<|end_of_text|>",
                                      "<|end|>",
                                      "<end_of_turn>",
                                      "<|end_of_turn|>",
                                      "<turn|>",
                                      "<|return|>",
                                      "<|call|>",
                                      "<|endofturn|>",
                                      "</s>",
                                      "<eos>",
                                      "<|END_OF_TURN_TOKEN|>",
                                      "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};

bool IsAmong(absl::Span<const std::string_view> names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// JSON as a template's values.
class JsonValues {
 public:
  explicit JsonValues(jinja::Heap* heap) : heap_(*heap) {}

  absl::StatusOr<jinja::Value> Make(const OrderedJson& json) {
    switch (json.type()) {
      case OrderedJson::value_t::null:
        return jinja::Value();
      case OrderedJson::value_t::boolean:
        return jinja::Value(json.get<bool>());
      case OrderedJson::value_t::string:
        return MakeString(json.get_ref<const std::string&>(), /*is_template=*/false);
      case OrderedJson::value_t::array:
        return MakeList(json);
      case OrderedJson::value_t::object:
        return MakeDict(json);
      case OrderedJson::value_t::number_float:
        return jinja::Value(json.get<double>());
      default:
        return MakeInteger(json);
    }
  }

  absl::StatusOr<jinja::Value> MakeMessages(const OrderedJson& messages) {
    std::vector<jinja::Value> items;
    for (const OrderedJson& message : messages) {
      ASSIGN_OR_RETURN(jinja::Value item, MakeDict(message, /*is_message=*/true));
      items.push_back(std::move(item));
    }
    return heap_.Sequence(jinja::Value::Kind::kList, std::move(items));
  }

  absl::StatusOr<jinja::Value> MakeString(const std::string& text, bool is_template) {
    return heap_.String(IsUtf8(text) ? text : ReplaceStrayBytes(text), is_template);
  }

 private:
  static absl::StatusOr<jinja::Value> MakeInteger(const OrderedJson& json) {
    if (json.is_number_unsigned() && json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the number ", json.get<uint64_t>(), " is out of range"));
    }
    return jinja::Value(json.get<int64_t>());
  }

  absl::StatusOr<jinja::Value> MakeList(const OrderedJson& json) {
    std::vector<jinja::Value> items;
    for (const OrderedJson& member : json) {
      ASSIGN_OR_RETURN(jinja::Value item, Make(member));
      items.push_back(std::move(item));
    }
    return heap_.Sequence(jinja::Value::Kind::kList, std::move(items));
  }

  absl::StatusOr<jinja::Value> MakeDict(const OrderedJson& json, bool is_message = false) {
    std::vector<jinja::Value::Pair> pairs;
    for (const auto& [name, member] : json.items()) {
      const bool is_role = is_message && name == "role" && member.is_string() &&
                           IsAmong(kRoles, member.get_ref<const std::string&>());
      ASSIGN_OR_RETURN(jinja::Value key, MakeString(name, /*is_template=*/false));
      ASSIGN_OR_RETURN(
          jinja::Value value,
          is_role ? MakeString(member.get_ref<const std::string&>(), true) : Make(member));
      pairs.emplace_back(std::move(key), std::move(value));
    }
    return heap_.Dict(std::move(pairs));
  }

  jinja::Heap& heap_;
};

absl::StatusOr<jinja::Variables> MakeVariables(const Conversation& conversation, bool flat,
                                               const std::map<std::string, std::string>& tokens,
                                               jinja::Heap* heap) {
  JsonValues values(heap);
  jinja::Variables out;
  for (const auto& [name, text] : tokens) {
    ASSIGN_OR_RETURN(jinja::Value value, values.MakeString(text, /*is_template=*/true));
    out.emplace_back(name, std::move(value));
  }
  for (const auto& [name, option] : conversation.options.items()) {
    ASSIGN_OR_RETURN(jinja::Value value, values.Make(option));
    out.emplace_back(name, std::move(value));
  }
  ASSIGN_OR_RETURN(jinja::Value messages,
                   values.MakeMessages(MessagesForTemplates(conversation.messages, flat)));
  ASSIGN_OR_RETURN(jinja::Value tools, values.Make(conversation.tools));
  ASSIGN_OR_RETURN(jinja::Value documents, values.Make(conversation.documents));
  out.emplace_back("messages", std::move(messages));
  out.emplace_back("tools", std::move(tools));
  out.emplace_back("documents", std::move(documents));
  out.emplace_back("add_generation_prompt", jinja::Value(conversation.add_generation_prompt));
  return out;
}

std::string About(const std::string& source) {
  return absl::StrCat("\"", absl::CHexEscape(source.substr(0, 64)), "\"... (", source.size(),
                      " bytes, SHA-256 ", Sha256Hex(source).substr(0, 16), "...)");
}

std::map<std::string, std::string> AllTemplates(const std::string& default_template,
                                                const ChatVariables& variables) {
  std::map<std::string, std::string> named = variables.more_templates;
  if (!default_template.empty()) named["default"] = default_template;
  return named;
}

std::map<std::string, std::string> AllTokens(const ChatVariables& variables, const std::string& bos,
                                             const std::string& eos) {
  std::map<std::string, std::string> tokens = variables.tokens;
  if (!bos.empty()) tokens.emplace("bos_token", bos);
  if (!eos.empty()) tokens.emplace("eos_token", eos);
  return tokens;
}

}  // namespace

ChatTemplates::ChatTemplates(std::map<std::string, std::string> named,
                             std::map<std::string, std::string> tokens)
    : tokens_(std::move(tokens)) {
  for (const auto& [name, source] : named) {
    templates_.emplace(name, Parsed{jinja::Parse(source), About(source)});
  }
}

ChatTemplates::ChatTemplates(const std::string& default_template, const ChatVariables& variables,
                             const std::string& bos, const std::string& eos)
    : ChatTemplates(AllTemplates(default_template, variables), AllTokens(variables, bos, eos)) {}

absl::StatusOr<const ChatTemplates::Parsed*> ChatTemplates::Choose(
    const Conversation& conversation) const {
  auto it = templates_.find("tool_use");
  if (conversation.tools.is_null() || it == templates_.end()) it = templates_.find("default");
  if (it == templates_.end()) {
    return absl::FailedPreconditionError("the model has no chat template, or no default one");
  }
  const Parsed& chosen = it->second;
  if (chosen.parsed.ok()) return &chosen;
  const absl::Status& why = chosen.parsed.status();
  return absl::Status(why.code(), absl::StrCat("the model's chat template ", chosen.about,
                                               " cannot be used: ", why.message()));
}

absl::StatusOr<MarkedText> ChatTemplates::Render(const Conversation& conversation) const {
  ASSIGN_OR_RETURN(const Parsed* chosen, Choose(conversation));
  RETURN_IF_ERROR(CheckConversation(conversation));
  const auto runtime = std::make_unique<jinja::Runtime>();
  runtime->now = conversation.now;
  const bool flat = !chosen->parsed->reads_parts;
  ASSIGN_OR_RETURN(jinja::Variables variables,
                   MakeVariables(conversation, flat, tokens_, &runtime->heap));
  auto text = jinja::Render(*chosen->parsed, std::move(variables), runtime.get());
  if (text.ok()) return text;
  return absl::Status(text.status().code(),
                      absl::StrCat("the chat template: ", text.status().message()));
}

absl::StatusOr<std::vector<TokenId>> ChatTemplates::Apply(const Tokenizer& tokenizer,
                                                          const Conversation& conversation) const {
  ASSIGN_OR_RETURN(const MarkedText text, Render(conversation));
  return EncodeMarked(tokenizer, text);
}

absl::StatusOr<std::vector<TokenId>> EncodeMarked(const Tokenizer& tokenizer,
                                                  const MarkedText& text) {
  std::vector<TokenId> ids;
  bool behind_special = false;
  for (const AddedTokens::Stretch& stretch : tokenizer.special_tokens().SplitMarked(text)) {
    if (stretch.id) {
      ids.push_back(*stretch.id);
      behind_special = true;
      continue;
    }
    const std::vector<TokenId> more = tokenizer.EncodeInChat(stretch.text, behind_special);
    // A vocabulary may hold a special token as a word too.
    for (const TokenId id : more) {
      if (!tokenizer.IsControl(id)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("text of the conversation becomes the special token ", id,
                       ", though it does not stand there: \"",
                       absl::CHexEscape(std::string(stretch.text.substr(0, 64))), "\""));
    }
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

absl::Status CheckRoles(absl::Span<const ChatMessage> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    return absl::InvalidArgumentError(absl::StrCat("messages[", i, "].role is \"",
                                                   absl::CHexEscape(role.substr(0, 64)),
                                                   "\", expected system, user or assistant"));
  }
  return absl::OkStatus();
}

std::vector<TokenId> FindStopTokens(const Tokenizer& tokenizer, std::optional<TokenId> eos) {
  std::vector<TokenId> stops;
  if (eos) stops.push_back(*eos);
  for (const char* text : kStopTexts) {
    const auto id = tokenizer.SpecialId(text);
    if (!id || (!tokenizer.IsSpecial(*id) && !IsTurnMarker(text))) continue;
    if (std::find(stops.begin(), stops.end(), *id) == stops.end()) stops.push_back(*id);
  }
  return stops;
}

}  // namespace pregate
