#include "gateway_service/core/openai_answer.h"

#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gateway_service/core/json_text.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate::gateway::openai {
namespace {

using nlohmann::json;

const AnswerHead kHead = {.id = "7", .created_s = 1, .model = "m"};
const Started kStarted = {.seed = 5,
                          .model_digest = "0123456789abcdef",
                          .numerics_id = "cpu",
                          .prompt_tokens = 3,
                          .prompt_routes = {0, 1, 1}};
const Finished kFinished = {
    .reason = EndReason::kStopString,
    .stop_string = "\n",
    .usage = {.prompt_tokens = 3, .generated_tokens = 4, .cached_tokens = 2}};

std::string All(Answer& answer) {
  std::string text = answer.Start(kStarted);
  text += answer.Add({.ids = {1, 2}, .routes = {0, 2}, .text = "a\"\n"});
  text += answer.Add({.ids = {3}, .routes = {1}, .text = ""});
  text += answer.Add({.ids = {4}, .routes = {1}, .text = "\xC3\xA9\x01"});
  return text + answer.Finish(kFinished);
}

// The events' data; the last must be "[DONE]".
std::vector<json> Events(const std::string& text) {
  std::vector<json> events;
  std::vector<absl::string_view> lines = absl::StrSplit(absl::StripSuffix(text, "\n\n"), "\n\n");
  EXPECT_EQ(lines.back(), "data: [DONE]");
  lines.pop_back();
  for (absl::string_view line : lines) {
    EXPECT_TRUE(absl::ConsumePrefix(&line, "data: ")) << line;
    events.push_back(json::parse(line.begin(), line.end()));
  }
  return events;
}

TEST(OpenAiAnswerTest, StreamsAConversation) {
  const auto answer = MakeAnswer({.prompt = Conversation(), .stream = true}, kHead);
  const std::vector<json> events = Events(All(*answer));
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["id"], "chatcmpl-7");
  EXPECT_EQ(events[0]["choices"][0]["delta"],
            json::parse(R"({"role": "assistant", "content": ""})"));
  EXPECT_EQ(events[1]["choices"][0]["delta"]["content"], "a\"\n");
  EXPECT_EQ(events[2]["choices"][0]["delta"]["content"], "\xC3\xA9\x01");
  EXPECT_EQ(events[2]["choices"][0]["finish_reason"], nullptr);
  EXPECT_EQ(events[3]["choices"][0]["finish_reason"], "stop");
  for (const json& event : events) {
    EXPECT_FALSE(event.contains("usage") || event.contains("pregate"));
    EXPECT_EQ(event["system_fingerprint"], "fp_0123456789ab_cpu");
  }
}

TEST(OpenAiAnswerTest, UsageComesLastWithoutChoices) {
  const auto answer = MakeAnswer({.prompt = "x", .stream = true, .include_usage = true}, kHead);
  const std::vector<json> events = Events(All(*answer));
  EXPECT_EQ(events[0]["object"], "text_completion");
  EXPECT_EQ(events[0]["usage"], nullptr);
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"],
            json::parse(R"({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7,
                           "prompt_tokens_details": {"cached_tokens": 2}})"));
}

TEST(OpenAiAnswerTest, RoutesComeWithTheirTokens) {
  const Generation generation = {.prompt = Conversation(), .stream = true, .return_routes = true};
  const std::vector<json> events = Events(All(*MakeAnswer(generation, kHead)));
  EXPECT_EQ(events[0]["pregate"], json::parse(R"({"seed": 5, "prompt_routes": [0, 1, 1]})"));
  EXPECT_EQ(events[1]["pregate"], json::parse(R"({"ids": [1, 2], "routes": [0, 2]})"));
  EXPECT_EQ(events[2]["pregate"], json::parse(R"({"ids": [3], "routes": [1]})"));
}

TEST(OpenAiAnswerTest, WholeAnswerIsTheStreamsTogether) {
  const auto answer = MakeAnswer({.prompt = Conversation(), .return_routes = true}, kHead);
  const json body = json::parse(All(*answer));
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "a\"\n\xC3\xA9\x01");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["total_tokens"], 7);
  EXPECT_EQ(body["pregate"]["routes"], json::parse("[0, 2, 1, 1]"));
  EXPECT_EQ(body["pregate"]["ids"], json::parse("[1, 2, 3, 4]"));
}

TEST(OpenAiAnswerTest, ABrokenStreamSaysWhy) {
  const auto answer = MakeAnswer({.prompt = "x", .stream = true}, kHead);
  answer->Start(kStarted);
  const std::vector<json> events = Events(answer->Fail(ToApiError(absl::UnavailableError("gone"))));
  EXPECT_EQ(events[0]["error"]["message"], "gone");
}

TEST(OpenAiAnswerTest, Models) {
  const json list = json::parse(ModelListBody({{.name = "a/b", .context_tokens = 9}}, 5));
  EXPECT_EQ(list["data"][0]["id"], "a/b");
  EXPECT_EQ(list["data"][0]["max_model_len"], 9);
}

TEST(JsonTextTest, EscapesWhatMustBe) {
  std::string all;
  for (int c = 0; c < 128; ++c) all.push_back(static_cast<char>(c));
  EXPECT_EQ(json::parse(JsonString(all)).get<std::string>(), all);
  EXPECT_EQ(json::parse(JsonString("a\xFF\xF0\x9F\x98\x80")), "a\xEF\xBF\xBD\xF0\x9F\x98\x80");
}

}  // namespace
}  // namespace pregate::gateway::openai
