#include "gateway_service/core/openai_answer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"
#include "gateway_service/core/openai_logprobs.h"
#include "gateway_service/core/tool_calls.h"

namespace pregate::gateway::openai {
namespace {

std::string UsageJson(const Usage& usage) {
  return absl::StrCat(R"({"prompt_tokens":)", usage.prompt_tokens, R"(,"completion_tokens":)",
                      usage.generated_tokens, R"(,"total_tokens":)",
                      int64_t{usage.prompt_tokens} + usage.generated_tokens,
                      R"(,"prompt_tokens_details":{"cached_tokens":)", usage.cached_tokens, "}}");
}

// Of the same model on the same kernels: the same seed then gives the same text.
std::string FingerprintOf(const Started& started) {
  return absl::StrCat("fp_", started.model_digest.substr(0, 12), "_", started.numerics_id);
}

void AppendRoutes(std::string* out, const std::vector<TokenId>& ids,
                  const std::vector<ExpertId>& routes) {
  absl::StrAppend(out, R"("ids":)");
  AppendJsonArray(out, ids);
  absl::StrAppend(out, R"(,"routes":)");
  AppendJsonArray(out, routes);
}

// What streams and whole answers of both kinds have in common.
class OpenAiAnswer : public Answer {
 public:
  OpenAiAnswer(const Generation& generation, AnswerHead head)
      : chat_(std::holds_alternative<Conversation>(generation.prompt)),
        routes_(generation.return_routes),
        several_(generation.several()),
        echo_(generation.echo),
        head_(std::move(head)),
        n_(generation.n),
        prompts_(generation.num_prompts()),
        logprobs_(generation.num_choices(), Logprobs(chat_)),
        parsers_(ToolCallParser::For(generation)),
        num_calls_(generation.num_choices()) {}

  std::string AddPrompt(const PromptTokens& prompt) override {
    std::vector<TokenLogprobs>& logprobs = prompts_[prompt.prompt].logprobs;
    logprobs.insert(logprobs.end(), prompt.logprobs.begin(), prompt.logprobs.end());
    return "";
  }

 protected:
  // "{"id":...,": the members of each object up to "choices".
  std::string Opening(const Started& started, const char* chunk) const {
    return absl::StrCat(R"({"id":")", chat_ ? "chatcmpl-" : "cmpl-", head_.id, R"(","object":")",
                        chat_ ? "chat.completion" : "text_completion", chat_ ? chunk : "",
                        R"(","created":)", head_.created_s, R"(,"model":)", JsonString(head_.model),
                        R"(,"system_fingerprint":)", JsonString(FingerprintOf(started)),
                        R"(,"choices":[)");
  }

  // Of an answer that begins with its prompt: what stands before the generated tokens, once all of
  // the prompt's have come. Its first token has no probability, and is what the others leave of the
  // text.
  void EchoLogprobs(int32_t index) {
    EchoedPrompt& prompt = prompts_[index];
    if (prompt.logprobs.empty()) return;
    size_t others = 0;
    for (const TokenLogprobs& token : prompt.logprobs) others += token.token.bytes.size();
    const size_t first = prompt.text.size() - std::min(others, prompt.text.size());
    for (int32_t i = index * n_; i < (index + 1) * n_; ++i) {
      logprobs_[i].AddFirst(prompt.text.substr(0, first));
      for (const TokenLogprobs& token : prompt.logprobs) logprobs_[i].Add(token);
    }
    prompt.logprobs.clear();
  }

  void AddLogprobs(const Tokens& tokens) {
    EchoLogprobs(tokens.index / n_);
    for (const TokenLogprobs& token : tokens.logprobs) logprobs_[tokens.index].Add(token);
  }

  // {"id": ..., "type": "function", ...}, without its braces, of the next call of a choice.
  std::string CallJson(size_t index, absl::string_view name, absl::string_view arguments) {
    return absl::StrCat(R"("id":")",
                        ToolCallId(head_.id, static_cast<int32_t>(index), num_calls_[index]++),
                        R"(","type":"function","function":{"name":)", JsonString(name),
                        R"(,"arguments":)", JsonString(arguments), "}");
  }

  // An answer that was cut short may have had more to call.
  const char* ReasonOf(size_t index, EndReason reason) const {
    if (reason == EndReason::kLength) return "length";
    return num_calls_[index] > 0 ? "tool_calls" : "stop";
  }

  // A message that names no choice is a fault of the scheduler's.
  bool HasChoice(int32_t index) const {
    return index >= 0 && static_cast<size_t>(index) < logprobs_.size();
  }

  const bool chat_, routes_, several_, echo_;
  const AnswerHead head_;
  struct EchoedPrompt {
    std::string text;
    std::vector<TokenLogprobs> logprobs;  // until the first generated tokens
  };
  const int32_t n_;  // choices of a prompt
  std::vector<EchoedPrompt> prompts_;
  std::vector<Logprobs> logprobs_;       // [choice]
  std::vector<ToolCallParser> parsers_;  // [choice]; empty: calls are not looked for
  std::vector<int32_t> num_calls_;       // [choice]: found so far
};

class StreamedAnswer final : public OpenAiAnswer {
 public:
  StreamedAnswer(const Generation& generation, AnswerHead head)
      : OpenAiAnswer(generation, std::move(head)),
        include_usage_(generation.include_usage),
        continuous_usage_(generation.continuous_usage) {}

  std::string Start(const Started& started) override {
    opening_ = absl::StrCat("data: ", Opening(started, ".chunk"));
    usage_.prompt_tokens += started.prompt_tokens;
    prompts_[started.prompt].text = started.prompt_text;
    std::string extra, out;
    if (routes_) {
      absl::StrAppend(&extra, R"(,"pregate":{"seed":)", started.seed, R"(,"prompt_routes":)");
      AppendJsonArray(&extra, started.prompt_routes);
      extra.push_back('}');
    }
    const std::string text =
        chat_ ? R"("delta":{"role":"assistant","content":""})"
              : absl::StrCat(R"("text":)", JsonString(echo_ ? started.prompt_text : ""));
    if (!chat_ && !routes_ && !echo_) return "";
    for (int32_t i = 0; i < n_; ++i) out += Chunk(started.prompt * n_ + i, text, nullptr, extra);
    return out;
  }

  std::string Add(const Tokens& tokens) override {
    if (!HasChoice(tokens.index)) return "";
    usage_.generated_tokens += static_cast<int32_t>(tokens.ids.size());
    AddLogprobs(tokens);
    std::string extra;
    if (routes_) {
      absl::StrAppend(&extra, R"(,"pregate":{)");
      AppendRoutes(&extra, tokens.ids, tokens.routes);
      extra.push_back('}');
    }
    if (parsers_.empty()) return AddText(tokens.index, tokens.text, extra);
    // Routes and probabilities come with the tokens, text and calls when it is clear which it is.
    std::string out;
    if (routes_ || !tokens.logprobs.empty()) out = AddText(tokens.index, "", extra);
    return out + AddPieces(tokens.index, parsers_[tokens.index].Add(tokens.text));
  }

  std::string FinishChoice(const ChoiceFinished& finished) override {
    if (!HasChoice(finished.index)) return "";
    std::string out;
    if (!parsers_.empty()) out = AddPieces(finished.index, parsers_[finished.index].Finish());
    return out + Chunk(finished.index, chat_ ? R"("delta":{})" : R"("text":"")",
                       ReasonOf(finished.index, finished.reason), "");
  }

  std::string Finish(const Finished& finished) override {
    usage_ = finished.usage;
    std::string out;
    if (!several_) out = FinishChoice({.index = 0, .reason = finished.reason});
    if (include_usage_) {
      absl::StrAppend(&out, opening_, R"(],"usage":)", UsageJson(usage_), "}\n\n");
    }
    return absl::StrCat(out, "data: [DONE]\n\n");
  }

  std::string Fail(const ApiError& error) override {
    return absl::StrCat("data: ", ErrorBody(error, Dialect::kOpenAi), "\n\ndata: [DONE]\n\n");
  }

 private:
  std::string AddText(size_t index, absl::string_view text, absl::string_view extra) {
    if (text.empty() && extra.empty() && !logprobs_[index].any()) return "";
    std::string content = chat_ ? R"("delta":{"content":)" : R"("text":)";
    AppendJsonString(&content, text);
    if (chat_) content.push_back('}');
    return Chunk(index, content, nullptr, extra);
  }

  std::string AddPieces(size_t index, const std::vector<ToolCallParser::Piece>& pieces) {
    std::string out;
    for (const ToolCallParser::Piece& piece : pieces) {
      if (const auto* const text = std::get_if<std::string>(&piece)) {
        out += AddText(index, *text, "");
        continue;
      }
      const int32_t number = num_calls_[index];  // of the next call
      if (const auto* const call = std::get_if<ToolCall>(&piece)) {
        out += CallChunk(index, number, CallJson(index, call->name, call->arguments));
      } else if (const auto* const begin = std::get_if<CallBegin>(&piece)) {
        out += CallChunk(index, number, CallJson(index, begin->name, ""));
      } else if (const auto* const more = std::get_if<CallArguments>(&piece)) {
        out += CallChunk(index, number - 1,
                         absl::StrCat(R"("function":{"arguments":)", JsonString(more->piece), "}"));
      }
    }
    return out;
  }

  std::string CallChunk(size_t index, int32_t number, absl::string_view call) {
    return Chunk(index,
                 absl::StrCat(R"("delta":{"tool_calls":[{"index":)", number, ",", call, "}]}"),
                 nullptr, "");
  }

  std::string Chunk(size_t index, absl::string_view content, const char* reason,
                    absl::string_view extra) {
    std::string usage;
    if (continuous_usage_) {
      usage = absl::StrCat(R"(,"usage":)", UsageJson(usage_));
    } else if (include_usage_) {
      usage = R"(,"usage":null)";
    }
    const absl::string_view quote = reason == nullptr ? "" : "\"";
    return absl::StrCat(opening_, R"({"index":)", index, ",", content, R"(,"logprobs":)",
                        logprobs_[index].Take(), R"(,"finish_reason":)", quote,
                        reason == nullptr ? "null" : reason, quote, "}]", usage, extra, "}\n\n");
  }

  const bool include_usage_, continuous_usage_;
  std::string opening_;
  Usage usage_;  // so far
};

class WholeAnswer final : public OpenAiAnswer {
 public:
  WholeAnswer(const Generation& generation, AnswerHead head)
      : OpenAiAnswer(generation, std::move(head)), choices_(generation.num_choices()) {}

  std::string Start(const Started& started) override {
    if (started.prompt == 0) started_ = started;
    prompts_[started.prompt].text = started.prompt_text;
    for (int32_t i = 0; i < n_; ++i) choices_[started.prompt * n_ + i].text = started.prompt_text;
    return "";
  }

  std::string Add(const Tokens& tokens) override {
    if (!HasChoice(tokens.index)) return "";
    AddLogprobs(tokens);
    Choice& choice = choices_[tokens.index];
    if (parsers_.empty()) {
      choice.text += tokens.text;
    } else {
      AddPieces(tokens.index, parsers_[tokens.index].Add(tokens.text));
    }
    if (!routes_) return "";
    choice.ids.insert(choice.ids.end(), tokens.ids.begin(), tokens.ids.end());
    choice.routes.insert(choice.routes.end(), tokens.routes.begin(), tokens.routes.end());
    return "";
  }

  std::string FinishChoice(const ChoiceFinished& finished) override {
    if (!HasChoice(finished.index)) return "";
    choices_[finished.index].reason = finished.reason;
    choices_[finished.index].seed = finished.seed;
    return "";
  }

  std::string Finish(const Finished& finished) override {
    if (!several_) choices_[0].reason = finished.reason;
    std::string out = Opening(started_, "");
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (i > 0) out.push_back(',');
      AppendChoice(&out, i);
    }
    absl::StrAppend(&out, R"(],"usage":)", UsageJson(finished.usage));
    if (routes_) {
      absl::StrAppend(&out, R"(,"pregate":{"seed":)", started_.seed, R"(,"prompt_routes":)");
      AppendJsonArray(&out, started_.prompt_routes);
      out.push_back(',');
      AppendRoutes(&out, choices_[0].ids, choices_[0].routes);
      out.push_back('}');
    }
    out.push_back('}');
    return out;
  }

  std::string Fail(const ApiError& error) override { return ErrorBody(error, Dialect::kOpenAi); }

 private:
  struct Choice {
    std::string text;
    std::string calls;  // JSON, with commas between them
    std::vector<TokenId> ids;
    std::vector<ExpertId> routes;
    EndReason reason = EndReason::kLength;
    uint64_t seed = 0;
  };

  void AddPieces(size_t index, const std::vector<ToolCallParser::Piece>& pieces) {
    Choice& choice = choices_[index];
    for (const ToolCallParser::Piece& piece : pieces) {
      if (const auto* const text = std::get_if<std::string>(&piece)) {
        choice.text += *text;
      } else {
        const auto& call = std::get<ToolCall>(piece);
        absl::StrAppend(&choice.calls, choice.calls.empty() ? "{" : ",{",
                        CallJson(index, call.name, call.arguments), "}");
      }
    }
  }

  void AppendChoice(std::string* out, size_t index) {
    if (!parsers_.empty()) AddPieces(index, parsers_[index].Finish());
    const Choice& choice = choices_[index];
    absl::StrAppend(out, R"({"index":)", index, ",",
                    chat_ ? R"("message":{"role":"assistant","content":)" : R"("text":)");
    if (choice.text.empty() && !choice.calls.empty()) {
      absl::StrAppend(out, "null");
    } else {
      AppendJsonString(out, choice.text);
    }
    if (chat_) absl::StrAppend(out, R"(,"refusal":null)");
    if (!choice.calls.empty()) absl::StrAppend(out, R"(,"tool_calls":[)", choice.calls, "]");
    if (chat_) out->push_back('}');
    absl::StrAppend(out, R"(,"logprobs":)", logprobs_[index].Take(), R"(,"finish_reason":")",
                    ReasonOf(index, choice.reason), "\"");
    if (routes_ && several_) {
      absl::StrAppend(out, R"(,"pregate":{"seed":)", choice.seed, ",");
      AppendRoutes(out, choice.ids, choice.routes);
      out->push_back('}');
    }
    out->push_back('}');
  }

  Started started_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<Answer> MakeAnswer(const Generation& generation, AnswerHead head) {
  if (generation.stream) return std::make_unique<StreamedAnswer>(generation, std::move(head));
  return std::make_unique<WholeAnswer>(generation, std::move(head));
}

std::string ModelBody(const ModelCard& model, int64_t created_s) {
  return absl::StrCat(R"({"id":)", JsonString(model.name), R"(,"object":"model","created":)",
                      created_s, R"(,"owned_by":"pregate","max_model_len":)", model.context_tokens,
                      R"(,"pregate":{"model_digest":)", JsonString(model.digest),
                      R"(,"num_experts":)", model.num_experts, "}}");
}

std::string ModelListBody(const std::vector<ModelCard>& models, int64_t created_s) {
  std::string out = R"({"object":"list","data":[)";
  for (size_t i = 0; i < models.size(); ++i) {
    absl::StrAppend(&out, i == 0 ? "" : ",", ModelBody(models[i], created_s));
  }
  return absl::StrCat(out, "]}");
}

}  // namespace pregate::gateway::openai
