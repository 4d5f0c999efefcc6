// `pregate tokenize`: a text file as token ids, without special tokens, or a conversation as the
// model's chat template lays it out.
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/time/clock.h"
#include "cli/command.h"
#include "cli/read_file.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/tokenizer/conversation.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::cli {
namespace {

struct TokenizeOptions {
  std::string model, text_file, messages_file;
  bool chat = false, as_json = false;
};

void Declare(OptionSet& set, TokenizeOptions* o) {
  set.String("model", &o->model, "pregate or HF directory, or GGUF file").Required();
  set.String("text-file", &o->text_file, "UTF-8 text; no special token is added or recognised");
  set.Switch("chat", &o->chat, "lay out --messages by the model's chat template");
  set.String("messages", &o->messages_file,
             "JSON: a list of messages, or {\"messages\": [...], \"tools\": [...], further "
             "variables of the template ...}");
  set.Switch("json", &o->as_json, "print {\"ids\": [...]}");
}

absl::Status CheckOptions(const TokenizeOptions& options) {
  if (options.chat != !options.messages_file.empty()) {
    return absl::InvalidArgumentError("--chat and --messages go together");
  }
  if (options.chat == !options.text_file.empty()) {
    return absl::InvalidArgumentError("one of --text-file and --chat is needed");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> Ids(const TokenizeOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(options.model));
  ASSIGN_OR_RETURN(const auto tokenizer, checkpoint->LoadTokenizer());
  if (!options.chat) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile("text-file", options.text_file));
    return tokenizer->Encode(text);
  }
  ASSIGN_OR_RETURN(const std::string text,
                   ReadSmallFile(options.messages_file, kConversationBytesMax));
  ASSIGN_OR_RETURN(const Conversation conversation,
                   ParseConversation(text, options.messages_file, absl::Now()));
  return tokenizer->ApplyConversation(conversation);
}

}  // namespace

int Tokenize(int argc, const char* const* argv) {
  TokenizeOptions options;
  OptionSet set("pregate tokenize",
                "Turns a text file, or a conversation, into token ids, one a line.");
  Declare(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "tokenize", argc, argv);
  const auto ids = Ids(options);
  if (!ids.ok()) return Fail("tokenize", ids.status());
  if (options.as_json) {
    PrintJson({{"ids", *ids}});
  } else {
    for (const TokenId id : *ids) std::cout << id << "\n";
  }
  return kExitOk;
}

}  // namespace pregate::cli
