#include "gateway_service/core/anthropic_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"

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

std::string StopJson(const Finished& finished) {
  const bool matched = finished.reason == EndReason::kStopString;
  return absl::StrCat(R"("stop_reason":")", ReasonOf(finished.reason), R"(","stop_sequence":)",
                      matched ? JsonString(finished.stop_string) : "null");
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
      : routes_(generation.return_routes), head_(std::move(head)) {}

  std::string Fail(const ApiError& error) override {
    return absl::StrCat("event: error\ndata: ", ErrorBody(error, Dialect::kAnthropic), "\n\n");
  }

 protected:
  std::string Opening() const {
    return absl::StrCat(R"({"id":"msg_)", head_.id,
                        R"(","type":"message","role":"assistant","model":)",
                        JsonString(head_.model));
  }

  const bool routes_;
  const AnswerHead head_;
};

class StreamedAnswer final : public AnthropicAnswer {
 public:
  using AnthropicAnswer::AnthropicAnswer;

  std::string Start(const Started& started) override {
    const Usage usage = {.prompt_tokens = started.prompt_tokens};
    return absl::StrCat(
        Event("message_start",
              absl::StrCat(R"(,"message":)", Opening(),
                           R"(,"content":[],"stop_reason":null,"stop_sequence":null,)",
                           UsageJson(usage), "}")),
        Event("content_block_start", R"(,"index":0,"content_block":{"type":"text","text":""})"));
  }

  std::string Add(const Tokens& tokens) override {
    if (tokens.text.empty() && !routes_) return "";
    return Event("content_block_delta",
                 absl::StrCat(R"(,"index":0,"delta":{"type":"text_delta","text":)",
                              JsonString(tokens.text), "}", routes_ ? RoutesJson(tokens) : ""));
  }

  std::string Finish(const Finished& finished) override {
    return absl::StrCat(Event("content_block_stop", R"(,"index":0)"),
                        Event("message_delta", absl::StrCat(R"(,"delta":{)", StopJson(finished),
                                                            "},", UsageJson(finished.usage))),
                        Event("message_stop", ""));
  }
};

class WholeAnswer final : public AnthropicAnswer {
 public:
  using AnthropicAnswer::AnthropicAnswer;

  std::string Start(const Started&) override { return ""; }

  std::string Add(const Tokens& tokens) override {
    all_.text += tokens.text;
    if (!routes_) return "";
    all_.ids.insert(all_.ids.end(), tokens.ids.begin(), tokens.ids.end());
    all_.routes.insert(all_.routes.end(), tokens.routes.begin(), tokens.routes.end());
    return "";
  }

  std::string Finish(const Finished& finished) override {
    return absl::StrCat(Opening(), R"(,"content":[{"type":"text","text":)", JsonString(all_.text),
                        "}],", StopJson(finished), ",", UsageJson(finished.usage),
                        routes_ ? RoutesJson(all_) : "", "}");
  }

 private:
  Tokens all_;
};

}  // namespace

std::unique_ptr<Answer> MakeAnswer(const Generation& generation, AnswerHead head) {
  if (generation.stream) return std::make_unique<StreamedAnswer>(generation, std::move(head));
  return std::make_unique<WholeAnswer>(generation, std::move(head));
}

}  // namespace pregate::gateway::anthropic
