#include "gateway_service/core/openai_answer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"

namespace pregate::gateway::openai {
namespace {

const char* ReasonOf(EndReason reason) { return reason == EndReason::kLength ? "length" : "stop"; }

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
        include_usage_(generation.include_usage),
        continuous_usage_(generation.continuous_usage),
        head_(std::move(head)) {}

 protected:
  // "{"id":...,": the members of each object up to "choices".
  std::string Opening(const Started& started, const char* chunk) const {
    return absl::StrCat(R"({"id":")", chat_ ? "chatcmpl-" : "cmpl-", head_.id, R"(","object":")",
                        chat_ ? "chat.completion" : "text_completion", chat_ ? chunk : "",
                        R"(","created":)", head_.created_s, R"(,"model":)", JsonString(head_.model),
                        R"(,"system_fingerprint":)", JsonString(FingerprintOf(started)),
                        R"(,"choices":[)");
  }

  const bool chat_, routes_, include_usage_, continuous_usage_;
  const AnswerHead head_;
};

class StreamedAnswer final : public OpenAiAnswer {
 public:
  using OpenAiAnswer::OpenAiAnswer;

  std::string Start(const Started& started) override {
    opening_ = absl::StrCat("data: ", Opening(started, ".chunk"));
    usage_.prompt_tokens = started.prompt_tokens;
    std::string extra;
    if (routes_) {
      absl::StrAppend(&extra, R"(,"pregate":{"seed":)", started.seed, R"(,"prompt_routes":)");
      AppendJsonArray(&extra, started.prompt_routes);
      extra.push_back('}');
    }
    if (chat_) return Chunk(R"("delta":{"role":"assistant","content":""})", nullptr, extra);
    return routes_ ? Chunk(R"("text":"")", nullptr, extra) : "";
  }

  std::string Add(const Tokens& tokens) override {
    usage_.generated_tokens += static_cast<int32_t>(tokens.ids.size());
    if (tokens.text.empty() && !routes_) return "";
    std::string extra;
    if (routes_) {
      absl::StrAppend(&extra, R"(,"pregate":{)");
      AppendRoutes(&extra, tokens.ids, tokens.routes);
      extra.push_back('}');
    }
    std::string text = chat_ ? R"("delta":{"content":)" : R"("text":)";
    AppendJsonString(&text, tokens.text);
    if (chat_) text.push_back('}');
    return Chunk(text, nullptr, extra);
  }

  std::string Finish(const Finished& finished) override {
    usage_ = finished.usage;
    std::string out =
        Chunk(chat_ ? R"("delta":{})" : R"("text":"")", ReasonOf(finished.reason), "");
    if (include_usage_)
      absl::StrAppend(&out, opening_, R"(],"usage":)", UsageJson(usage_), "}\n\n");
    return absl::StrCat(out, "data: [DONE]\n\n");
  }

  std::string Fail(const ApiError& error) override {
    return absl::StrCat("data: ", ErrorBody(error, Dialect::kOpenAi), "\n\ndata: [DONE]\n\n");
  }

 private:
  std::string Chunk(absl::string_view content, const char* reason, absl::string_view extra) const {
    std::string usage;
    if (continuous_usage_) {
      usage = absl::StrCat(R"(,"usage":)", UsageJson(usage_));
    } else if (include_usage_) {
      usage = R"(,"usage":null)";
    }
    const absl::string_view quote = reason == nullptr ? "" : "\"";
    return absl::StrCat(opening_, R"({"index":0,)", content, R"(,"logprobs":null,"finish_reason":)",
                        quote, reason == nullptr ? "null" : reason, quote, "}]", usage, extra,
                        "}\n\n");
  }

  std::string opening_;
  Usage usage_;  // so far
};

class WholeAnswer final : public OpenAiAnswer {
 public:
  using OpenAiAnswer::OpenAiAnswer;

  std::string Start(const Started& started) override {
    started_ = started;
    return "";
  }

  std::string Add(const Tokens& tokens) override {
    text_ += tokens.text;
    if (!routes_) return "";
    ids_.insert(ids_.end(), tokens.ids.begin(), tokens.ids.end());
    token_routes_.insert(token_routes_.end(), tokens.routes.begin(), tokens.routes.end());
    return "";
  }

  std::string Finish(const Finished& finished) override {
    std::string out = Opening(started_, "");
    absl::StrAppend(&out, R"({"index":0,)",
                    chat_ ? R"("message":{"role":"assistant","content":)" : R"("text":)");
    AppendJsonString(&out, text_);
    if (chat_) absl::StrAppend(&out, R"(,"refusal":null})");
    absl::StrAppend(&out, R"(,"logprobs":null,"finish_reason":")", ReasonOf(finished.reason),
                    R"("}],"usage":)", UsageJson(finished.usage));
    if (routes_) {
      absl::StrAppend(&out, R"(,"pregate":{"seed":)", started_.seed, R"(,"prompt_routes":)");
      AppendJsonArray(&out, started_.prompt_routes);
      out.push_back(',');
      AppendRoutes(&out, ids_, token_routes_);
      out.push_back('}');
    }
    out.push_back('}');
    return out;
  }

  std::string Fail(const ApiError& error) override { return ErrorBody(error, Dialect::kOpenAi); }

 private:
  Started started_;
  std::string text_;
  std::vector<TokenId> ids_;
  std::vector<ExpertId> token_routes_;
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
