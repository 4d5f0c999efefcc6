#include "gateway_service/core/openai_answer.h"

#include <cmath>
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

const TokenLogprobs kPart = {.token = {.id = 1, .logprob = -1, .bytes = "\xC3"},
                             .top = {{.id = 2, .logprob = -0.5, .bytes = "b"}}};
const TokenLogprobs kRest = {.token = {.id = 3, .logprob = -INFINITY, .bytes = "\xA9"}};

TEST(OpenAiAnswerTest, LogprobsOfAChat) {
  const auto answer = MakeAnswer({.prompt = Conversation(), .logprobs = 1}, kHead);
  answer->Start(kStarted);
  answer->Add({.ids = {1, 3}, .text = "\xC3\xA9", .logprobs = {kPart, kRest}});
  const json body = json::parse(answer->Finish(kFinished));
  const json& content = body["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 2u);
  EXPECT_EQ(content[0]["token"], "bytes:\\xc3");
  EXPECT_EQ(content[0]["bytes"], json::parse("[195]"));
  EXPECT_EQ(content[0]["top_logprobs"][0]["token"], "b");
  EXPECT_EQ(content[1]["logprob"], -9999);
}

TEST(OpenAiAnswerTest, LogprobsOfACompletionAndItsPrompt) {
  Started started = kStarted;
  started.prompt_text = "a\xC3\xA9";
  for (const bool stream : {false, true}) {
    const auto answer = MakeAnswer(
        {.prompt = "x", .logprobs = 1, .prompt_logprobs = 1, .echo = true, .stream = stream},
        kHead);
    std::string text = answer->Start(started);
    text += answer->AddPrompt({{kPart, kRest}});
    text += answer->Add(
        {.ids = {2}, .text = "b", .logprobs = {{.token = {.id = 2, .logprob = -2, .bytes = "b"}}}});
    text += answer->Finish(kFinished);
    const std::vector<json> bodies = stream ? Events(text) : std::vector<json>{json::parse(text)};
    std::string all;
    json logprobs;
    for (const json& body : bodies) {
      all += body["choices"][0]["text"].get<std::string>();
      if (!body["choices"][0]["logprobs"].is_null()) logprobs = body["choices"][0]["logprobs"];
    }
    EXPECT_EQ(all,
              "a\xC3\xA9"
              "b");
    EXPECT_EQ(logprobs["tokens"], json::parse(R"(["a", "bytes:\\xc3", "bytes:\\xa9", "b"])"));
    EXPECT_EQ(logprobs["token_logprobs"], json::parse("[null, -1, -9999, -2]"));
    EXPECT_EQ(logprobs["text_offset"], json::parse("[0, 1, 2, 2]"));
    EXPECT_EQ(logprobs["top_logprobs"][1], json::parse(R"({"b": -0.5, "bytes:\\xc3": -1})"));
  }
}

TEST(OpenAiAnswerTest, EachChoiceEndsByItself) {
  for (const bool stream : {false, true}) {
    const auto answer = MakeAnswer({.prompt = Conversation(), .n = 2, .stream = stream}, kHead);
    std::string text = answer->Start(kStarted);
    text += answer->Add({.ids = {1}, .text = "a", .index = 1});
    text += answer->Add({.ids = {1}, .text = "b", .index = 0});
    text += answer->Add({.ids = {1}, .text = "?", .index = 7});
    text += answer->FinishChoice({.index = 1, .reason = EndReason::kStopToken});
    text += answer->FinishChoice({.index = 0, .reason = EndReason::kLength});
    text += answer->Finish(kFinished);
    std::string texts[2], reasons[2];
    for (const json& body : stream ? Events(text) : std::vector<json>{json::parse(text)}) {
      for (const json& choice : body["choices"]) {
        const int index = choice["index"];
        texts[index] += choice[stream ? "delta" : "message"].value("content", "");
        if (!choice["finish_reason"].is_null())
          reasons[index] += choice["finish_reason"].get<std::string>();
      }
    }
    EXPECT_EQ(texts[0], "b");
    EXPECT_EQ(texts[1], "a");
    EXPECT_EQ(reasons[0], "length");
    EXPECT_EQ(reasons[1], "stop");
  }
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
