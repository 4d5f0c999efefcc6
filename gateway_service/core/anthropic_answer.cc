#include "gateway_service/core/anthropic_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"
#include "gateway_service/core/tool_calls.h"

namespace pregate::gateway::anthropic {
namespace {

const char* ReasonOf(EndReason reason) {
  switch (reason) {
    case EndReason::kLength:
      return "max_tokens";
    case EndReason::kStopToken:
      return "end_turn";
    case EndReason::kStopString:
      return "stop_sequence";
  }
  return "end_turn";
}

std::string StopJson(const Finished& finished, bool any_call) {
  const bool matched = finished.reason == EndReason::kStopString;
  const bool called = any_call && finished.reason != EndReason::kLength;
  return absl::StrCat(R"("stop_reason":")", called ? "tool_use" : ReasonOf(finished.reason),
                      R"(","stop_sequence":)", matched ? JsonString(finished.stop_string) : "null");
}

std::string UsageJson(const Usage& usage) {
  // Tokens that were read from a cache are counted beside input_tokens, not among them.
  return absl::StrCat(R"("usage":{"input_tokens":)", usage.prompt_tokens - usage.cached_tokens,
                      R"(,"cache_creation_input_tokens":0,"cache_read_input_tokens":)",
                      usage.cached_tokens, R"(,"output_tokens":)", usage.generated_tokens, "}");
}

std::string RoutesJson(const Tokens& tokens) {
  std::string out = R"(,"pregate":{"ids":)";
  AppendJsonArray(&out, tokens.ids);
  absl::StrAppend(&out, R"(,"routes":)");
  AppendJsonArray(&out, tokens.routes);
  out.push_back('}');
  return out;
}

std::string Event(absl::string_view type, absl::string_view members) {
  return absl::StrCat("event: ", type, "\ndata: {\"type\":\"", type, "\"", members, "}\n\n");
}

class AnthropicAnswer : public Answer {
 public:
  AnthropicAnswer(const Generation& generation, AnswerHead head)
      : routes_(generation.return_routes),
        head_(std::move(head)),
        parsers_(ToolCallParser::For(generation)) {}

  std::string Fail(const ApiError& error) override {
    return absl::StrCat("event: error\ndata: ", ErrorBody(error, Dialect::kAnthropic), "\n\n");
  }

 protected:
  std::string Opening() const {
    return absl::StrCat(R"({"id":"msg_)", head_.id,
                        R"(","type":"message","role":"assistant","model":)",
                        JsonString(head_.model));
  }

  // {"type": "tool_use", ..., "input": `input`} of the next call.
  std::string CallJson(absl::string_view name, absl::string_view input) {
    return absl::StrCat(R"({"type":"tool_use","id":"toolu_)", ToolCallId(head_.id, 0, num_calls_++),
                        R"(","name":)", JsonString(name), R"(,"input":)", input, "}");
  }

  const bool routes_;
  const AnswerHead head_;
  std::vector<ToolCallParser> parsers_;  // one, or none where calls are not looked for
  int32_t num_calls_ = 0;                // found so far
};

// Without tools there is one block, of text, from the beginning; else blocks begin when something is
// there for them.
class StreamedAnswer final : public AnthropicAnswer {
 public:
  using AnthropicAnswer::AnthropicAnswer;

  std::string Start(const Started& started) override {
    const Usage usage = {.prompt_tokens = started.prompt_tokens};
    std::string out = Event(
        "message_start", absl::StrCat(R"(,"message":)", Opening(),
                                      R"(,"content":[],"stop_reason":null,"stop_sequence":null,)",
                                      UsageJson(usage), "}"));
    return parsers_.empty() ? out + BeginText() : out;
  }

  std::string Add(const Tokens& tokens) override {
    const std::string routes = routes_ ? RoutesJson(tokens) : "";
    if (parsers_.empty()) return AddText(tokens.text, routes);
    std::string out;
    if (routes_) out = open_ == Block::kCall ? AddArguments("", routes) : AddText("", routes);
    return out + AddPieces(parsers_[0].Add(tokens.text));
  }

  std::string Finish(const Finished& finished) override {
    std::string out = parsers_.empty() ? "" : AddPieces(parsers_[0].Finish());
    return absl::StrCat(
        out, End(),
        Event("message_delta", absl::StrCat(R"(,"delta":{)", StopJson(finished, num_calls_ > 0),
                                            "},", UsageJson(finished.usage))),
        Event("message_stop", ""));
  }

 private:
  enum class Block { kNone, kText, kCall };

  std::string BeginBlock(absl::string_view block) {
    return Event("content_block_start",
                 absl::StrCat(R"(,"index":)", index_, R"(,"content_block":)", block));
  }
  std::string Delta(absl::string_view delta, absl::string_view extra) {
    return Event("content_block_delta",
                 absl::StrCat(R"(,"index":)", index_, R"(,"delta":)", delta, extra));
  }
  std::string EndBlock() {
    return Event("content_block_stop", absl::StrCat(R"(,"index":)", index_++));
  }

  // What is open ends where something else begins; the parts of a call alone go on with it.
  std::string Begin(Block block, absl::string_view json) {
    std::string out = End();
    open_ = block;
    return absl::StrCat(out, BeginBlock(json));
  }
  std::string BeginText() {
    return open_ == Block::kText ? "" : Begin(Block::kText, R"({"type":"text","text":""})");
  }
  std::string End() { return std::exchange(open_, Block::kNone) == Block::kNone ? "" : EndBlock(); }

  std::string AddText(absl::string_view text, absl::string_view routes) {
    if (text.empty() && routes.empty()) return "";
    const std::string begin = BeginText();
    return begin +
           Delta(absl::StrCat(R"({"type":"text_delta","text":)", JsonString(text), "}"), routes);
  }

  std::string AddPieces(const std::vector<ToolCallParser::Piece>& pieces) {
    std::string out;
    for (const ToolCallParser::Piece& piece : pieces) {
      if (const auto* const text = std::get_if<std::string>(&piece)) {
        out += AddText(*text, "");
        continue;
      }
      if (const auto* const call = std::get_if<ToolCall>(&piece)) {
        out += BeginCall(call->name);
        out += AddArguments(call->arguments, "");
        out += End();
      } else if (const auto* const begin = std::get_if<CallBegin>(&piece)) {
        out += BeginCall(begin->name);
      } else if (const auto* const more = std::get_if<CallArguments>(&piece)) {
        out += AddArguments(more->piece, "");
      } else {
        out += End();
      }
    }
    return out;
  }

  std::string BeginCall(absl::string_view name) {
    return Begin(Block::kCall, CallJson(name, "{}"));
  }
  std::string AddArguments(absl::string_view json, absl::string_view routes) {
    return Delta(
        absl::StrCat(R"({"type":"input_json_delta","partial_json":)", JsonString(json), "}"),
        routes);
  }

  int32_t index_ = 0;  // of the block
  Block open_ = Block::kNone;
};

class WholeAnswer final : public AnthropicAnswer {
 public:
  using AnthropicAnswer::AnthropicAnswer;

  std::string Start(const Started&) override { return ""; }

  std::string Add(const Tokens& tokens) override {
    if (parsers_.empty()) {
      all_.text += tokens.text;
    } else {
      AddPieces(parsers_[0].Add(tokens.text));
    }
    if (!routes_) return "";
    all_.ids.insert(all_.ids.end(), tokens.ids.begin(), tokens.ids.end());
    all_.routes.insert(all_.routes.end(), tokens.routes.begin(), tokens.routes.end());
    return "";
  }

  std::string Finish(const Finished& finished) override {
    if (!parsers_.empty()) AddPieces(parsers_[0].Finish());
    if (blocks_.empty() || !all_.text.empty()) EndText();
    return absl::StrCat(Opening(), R"(,"content":[)", blocks_, "],",
                        StopJson(finished, num_calls_ > 0), ",", UsageJson(finished.usage),
                        routes_ ? RoutesJson(all_) : "", "}");
  }

 private:
  void AddBlock(absl::string_view block) {
    absl::StrAppend(&blocks_, blocks_.empty() ? "" : ",", block);
  }
  void EndText() {
    AddBlock(absl::StrCat(R"({"type":"text","text":)", JsonString(all_.text), "}"));
    all_.text.clear();
  }
  void AddPieces(const std::vector<ToolCallParser::Piece>& pieces) {
    for (const ToolCallParser::Piece& piece : pieces) {
      if (const auto* const text = std::get_if<std::string>(&piece)) {
        all_.text += *text;
        continue;
      }
      if (!all_.text.empty()) EndText();
      const auto& call = std::get<ToolCall>(piece);
      AddBlock(CallJson(call.name, call.arguments));
    }
  }

  Tokens all_;          // its text: of the block that has not ended
  std::string blocks_;  // JSON, with commas between them
};

}  // namespace

std::unique_ptr<Answer> MakeAnswer(const Generation& generation, AnswerHead head) {
  if (generation.stream) return std::make_unique<StreamedAnswer>(generation, std::move(head));
  return std::make_unique<WholeAnswer>(generation, std::move(head));
}

}  // namespace pregate::gateway::anthropic
