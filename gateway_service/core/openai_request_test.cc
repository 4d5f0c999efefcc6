#include "gateway_service/core/openai_request.h"

#include "common/base/gateway_limits.h"
#include "gateway_service/core/api_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate::gateway::openai {
namespace {

using json = Json;
using ::testing::HasSubstr;

json Chat(json fields = json::object()) {
  json body = json::parse(R"({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})");
  body.update(fields);
  return body;
}

ApiError ErrorOf(const json& body) {
  const auto read = ReadChatRequest(body);
  EXPECT_FALSE(read.ok()) << body;
  return read.ok() ? ApiError() : ToApiError(read.status());
}

TEST(OpenAiRequestTest, ReadsAConversation) {
  const auto read = ReadChatRequest(json::parse(R"({
      "model": "m", "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.5,
      "top_p": 0.9, "seed": -1, "stop": ["a", "b"], "max_completion_tokens": 7, "user": "u",
      "messages": [{"role": "developer", "content": "Be brief."},
                   {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                   {"role": "assistant", "content": "Yes?", "refusal": null, "tool_calls": []}],
      "pregate": {"return_routes": true}})"));
  ASSERT_TRUE(read.ok()) << read.status();
  const Conversation expected = {{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yes?"}};
  EXPECT_EQ(std::get<Conversation>(read->prompt), expected);
  EXPECT_TRUE(read->stream && read->include_usage && read->return_routes);
  EXPECT_EQ(read->sampling.temperature, 0.5f);
  EXPECT_EQ(read->sampling.top_p, 0.9f);
  EXPECT_EQ(read->seed, ~uint64_t{0});
  EXPECT_EQ(read->max_tokens, 7);
  EXPECT_EQ(read->stop_strings, (std::vector<std::string>{"a", "b"}));
}

TEST(OpenAiRequestTest, DefaultsAreOpenAis) {
  const auto chat = ReadChatRequest(Chat());
  ASSERT_TRUE(chat.ok());
  EXPECT_EQ(chat->sampling.temperature, 1.0f);
  EXPECT_EQ(chat->max_tokens, std::nullopt);
  const auto completion = ReadCompletionRequest(json::parse(R"({"prompt": "Hi"})"));
  ASSERT_TRUE(completion.ok());
  EXPECT_EQ(completion->sampling.temperature, 1.0f);
  EXPECT_EQ(completion->max_tokens, 16);
}

TEST(OpenAiRequestTest, PromptsAreTextsOrIds) {
  const auto prompt = [](const char* text) {
    const auto read = ReadCompletionRequest({{"prompt", json::parse(text)}});
    EXPECT_TRUE(read.ok()) << text << read.status();
    return read.ok() ? read->prompt : Prompt();
  };
  const std::vector<TokenId> ids = {3, 4};
  EXPECT_EQ(prompt("\"Hi\""), Prompt("Hi"));
  EXPECT_EQ(prompt("[\"Hi\"]"), Prompt("Hi"));
  EXPECT_EQ(prompt("[3, 4]"), Prompt(ids));
  EXPECT_EQ(prompt("[[3, 4]]"), Prompt(ids));
  for (const char* bad :
       {"[]", "[[]]", "{}", "3", "[-1]", "[3, \"a\"]", "[4294967296]", "[[3], 4]", "[\"a\", []]"}) {
    EXPECT_FALSE(ReadCompletionRequest({{"prompt", json::parse(bad)}}).ok()) << bad;
  }
  const auto several =
      ReadCompletionRequest({{"prompt", json::parse(R"(["Hi", [3, 4]])")}, {"n", 2}});
  ASSERT_TRUE(several.ok()) << several.status();
  EXPECT_EQ(several->prompt, Prompt("Hi"));
  EXPECT_EQ(several->more_prompts, std::vector<Prompt>{Prompt(ids)});
  EXPECT_EQ(several->num_choices(), 4);
  const std::vector<std::string> many(kPromptsMax + 1, "x");
  EXPECT_THAT(ReadCompletionRequest({{"prompt", many}}).status().message(),
              HasSubstr("has 129 prompts, not at most 128"));
}

TEST(OpenAiRequestTest, NullIsAsAbsent) {
  json body = Chat();
  for (const RequestField& field : ChatFields()) {
    if (field.name != std::string("messages")) body[field.name] = nullptr;
  }
  EXPECT_TRUE(ReadChatRequest(body).ok());
  body["messages"] = nullptr;
  EXPECT_EQ(ErrorOf(body).message, "messages is missing");
}

TEST(OpenAiRequestTest, RefusesByNameAndValue) {
  const ApiError many = ErrorOf(Chat({{"reasoning_effort", 2}}));
  EXPECT_EQ(many.http_status, 400);
  EXPECT_EQ(many.param, "reasoning_effort");
  EXPECT_STREQ(many.code, "unsupported_value");
  EXPECT_THAT(many.message, HasSubstr("is 2"));
  const ApiError unknown = ErrorOf(Chat({{"temprature", 2}}));
  EXPECT_STREQ(unknown.code, "unknown_parameter");
  EXPECT_THAT(unknown.message, HasSubstr("temprature"));
  EXPECT_EQ(ErrorOf(Chat({{"temperature", 2.5}})).message,
            "temperature is 2.5, not a number from 0 to 2");
  EXPECT_EQ(ErrorOf(Chat({{"max_tokens", "9"}})).param, "max_tokens");
  EXPECT_EQ(ErrorOf(Chat({{"tools", json::array({1})}})).param, "tools[0]");
  EXPECT_EQ(ErrorOf(Chat({{"functions", json::array({1})}})).param, "functions");
  EXPECT_EQ(ErrorOf(Chat({{"stream_options", {{"include_usage", true}}}})).param, "stream_options");
  EXPECT_THAT(ErrorOf(Chat({{"max_tokens", 3}, {"max_completion_tokens", 4}})).message,
              HasSubstr("3"));
  EXPECT_THAT(ErrorOf(Chat({{"messages", {{{"role", "function"}, {"content", "x"}}}}})).param,
              "messages[0].role");
  EXPECT_THAT(ErrorOf(json::parse(R"({"messages": [{"role": "user", "content":
              [{"type": "image_url"}]}]})"))
                  .message,
              HasSubstr("image_url"));
}

TEST(OpenAiRequestTest, ValuesThatAskForNothingAreTaken) {
  const auto read = ReadChatRequest(Chat({{"n", 1},
                                          {"logprobs", false},
                                          {"logit_bias", json::object()},
                                          {"presence_penalty", 0.0},
                                          {"tools", json::array()},
                                          {"response_format", {{"type", "text"}}},
                                          {"tool_choice", "none"},
                                          {"modalities", {"text"}}}));
  EXPECT_TRUE(read.ok()) << read.status();
}

TEST(OpenAiRequestTest, ReadsWhatTheTextHasToBe) {
  const auto constraint = [](const char* fields) {
    const auto read = ReadChatRequest(Chat(json::parse(fields)));
    EXPECT_TRUE(read.ok()) << read.status();
    return read.ok() ? read->constraint : Constraint();
  };
  EXPECT_TRUE(std::holds_alternative<std::monostate>(constraint("{}")));
  EXPECT_TRUE(std::holds_alternative<AnyJsonObject>(
      constraint(R"({"response_format": {"type": "json_object"}})")));
  const Constraint schema = constraint(R"({"response_format": {"type": "json_schema", "json_schema":
      {"name": "a", "strict": true, "schema": {"z": 1, "a": {"y": 2, "b": 3}}}}})");
  EXPECT_EQ(std::get<JsonSchema>(schema).text, R"({"z":1,"a":{"y":2,"b":3}})")
      << "in its own order";
  EXPECT_EQ(std::get<Regex>(constraint(R"({"structured_outputs": {"regex": "a+"}})")).text, "a+");
  EXPECT_EQ(std::get<TextChoice>(constraint(R"({"structured_outputs": {"choice": ["a", "b"]}})"))
                .texts.size(),
            2u);
  EXPECT_EQ(
      std::get<JsonSchema>(constraint(R"({"structured_outputs": {"json": {"type": "null"}}})"))
          .text,
      R"({"type":"null"})");
}

TEST(OpenAiRequestTest, RefusesWhatNoTextCanBe) {
  const auto param = [](const char* fields) { return ErrorOf(Chat(json::parse(fields))).param; };
  EXPECT_EQ(param(R"({"response_format": "json"})"), "response_format");
  EXPECT_EQ(param(R"({"response_format": {"type": "xml"}})"), "response_format.type");
  EXPECT_EQ(param(R"({"response_format": {"type": "json_schema"}})"),
            "response_format.json_schema");
  EXPECT_EQ(param(R"({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}})"),
            "response_format.json_schema.schema");
  EXPECT_EQ(param(R"({"structured_outputs": {"regex": "a", "choice": ["a"]}})"),
            "structured_outputs");
  EXPECT_EQ(param(R"({"structured_outputs": {"choice": ["a", 3]}})"),
            "structured_outputs.choice[1]");
  EXPECT_EQ(param(R"({"structured_outputs": {"grammar": "a"}})"), "structured_outputs.grammar");
  EXPECT_EQ(param(R"({"response_format": {"type": "json_object"},
                      "structured_outputs": {"json_object": true}})"),
            "structured_outputs");
}

TEST(OpenAiRequestTest, ReadsHowTokensAreDrawnAndShown) {
  const auto chat = ReadChatRequest(Chat({{"frequency_penalty", -2},
                                          {"presence_penalty", 0.5},
                                          {"n", 3},
                                          {"logit_bias", {{"7", -100}, {"50256", 2.5}}},
                                          {"min_tokens", 4},
                                          {"priority", -3},
                                          {"logprobs", true},
                                          {"top_logprobs", 5}}));
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(chat->sampling.frequency_penalty, -2);
  EXPECT_EQ(chat->sampling.presence_penalty, 0.5f);
  EXPECT_EQ(chat->logit_bias.size(), 2u);
  EXPECT_EQ(chat->n, 3);
  EXPECT_EQ(chat->min_tokens, 4);
  EXPECT_EQ(chat->priority, -3);
  EXPECT_EQ(chat->logprobs, 5);
  EXPECT_EQ(ReadChatRequest(Chat({{"logprobs", true}}))->logprobs, 0);
  EXPECT_EQ(ReadChatRequest(Chat({{"logprobs", false}}))->logprobs, std::nullopt);
  EXPECT_EQ(ErrorOf(Chat({{"top_logprobs", 5}})).param, "top_logprobs");
  EXPECT_EQ(ErrorOf(Chat({{"logit_bias", {{"x", 1}}}})).param, "logit_bias");
  EXPECT_EQ(ErrorOf(Chat({{"logit_bias", {{"7", 101}}}})).param, "logit_bias[7]");
  EXPECT_EQ(ErrorOf(Chat({{"n", 33}})).param, "n");
  const auto completion = ReadCompletionRequest(
      {{"prompt", "x"}, {"logprobs", 2}, {"echo", true}, {"n", 2}, {"best_of", 4}});
  ASSERT_TRUE(completion.ok()) << completion.status();
  EXPECT_EQ(completion->prompt_logprobs, 2);
  EXPECT_EQ(completion->best_of, 4);
  EXPECT_FALSE(ReadCompletionRequest({{"prompt", "x"}, {"n", 3}, {"best_of", 2}}).ok());
}

// The scheduler's words name its own fields.
TEST(ApiErrorTest, FieldsOfTheSchedulerHaveTheirHttpNames) {
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("chat.messages has 9 entries")).param,
            "messages");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("max_tokens is -3")).param, "max_tokens");
  EXPECT_EQ(ToApiError(absl::InvalidArgumentError("stop_tokens[3] is 9")).param, "stop_token_ids");
  EXPECT_EQ(ToApiError(absl::NotFoundError("model 'x' is not served")).param, "model");
  EXPECT_EQ(ToApiError(absl::InternalError("max_tokens")).param, "");
}

TEST(ApiErrorTest, BothForms) {
  ApiError error = ToApiError(absl::ResourceExhaustedError("the \"queue\" is full"));
  EXPECT_EQ(error.http_status, 429);
  EXPECT_GT(error.retry_after, absl::ZeroDuration());
  EXPECT_EQ(
      json::parse(ErrorBody(error, Dialect::kOpenAi)),
      json::parse(R"({"error": {"message": "the \"queue\" is full", "type": "rate_limit_error",
                           "param": null, "code": "rate_limit_exceeded"}})"));
  EXPECT_EQ(json::parse(ErrorBody(error, Dialect::kAnthropic)),
            json::parse(R"({"type": "error", "error": {"type": "rate_limit_error",
                           "message": "the \"queue\" is full"}})"));
}

}  // namespace
}  // namespace pregate::gateway::openai
