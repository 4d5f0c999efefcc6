#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gateway_service/core/anthropic_answer.h"
#include "gateway_service/core/anthropic_request.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate::gateway::anthropic {
namespace {

using json = Json;
using ::testing::HasSubstr;

const AnswerHead kHead = {.id = "7", .created_s = 1, .model = "m"};
const Finished kFinished = {
    .reason = EndReason::kStopString,
    .stop_string = "\n",
    .usage = {.prompt_tokens = 3, .generated_tokens = 4, .cached_tokens = 2}};

std::string All(Answer& answer) {
  std::string text = answer.Start({.prompt_tokens = 3});
  text += answer.Add({.ids = {1, 2}, .routes = {0, 2}, .text = "a\""});
  text += answer.Add({.ids = {3}, .routes = {1}, .text = "b"});
  return text + answer.Finish(kFinished);
}

TEST(AnthropicTest, ReadsARequest) {
  const auto read = ReadRequest(json::parse(R"({
      "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}],
      "system": [{"type": "text", "text": "Be brief."}], "stop_sequences": ["x"], "top_k": 3,
      "metadata": {"user_id": "u"}, "thinking": {"type": "disabled"}})"));
  ASSERT_TRUE(read.ok()) << read.status();
  const Conversation expected = {{"system", "Be brief."}, {"user", "Hi"}};
  EXPECT_EQ(std::get<Conversation>(read->prompt), expected);
  EXPECT_EQ(read->max_tokens, 9);
  EXPECT_EQ(read->sampling.temperature, 1.0f);
  EXPECT_EQ(read->sampling.top_k, 3);
}

TEST(AnthropicTest, MistakesAreNamed) {
  const auto error = [](const char* body) {
    const auto read = ReadRequest(json::parse(body));
    EXPECT_FALSE(read.ok()) << body;
    return std::string(read.status().message());
  };
  EXPECT_THAT(error(R"({"max_tokens": 1})"), HasSubstr("messages is missing"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "content": "x"}]})"),
              HasSubstr("max_tokens is missing"));
  EXPECT_THAT(error(R"({"max_tokens": 1, "messages": [{"role": "system", "content": "x"}]})"),
              HasSubstr("messages[0].role"));
  EXPECT_THAT(error(R"({"max_tokens": 1, "messages": [{"role": "assistant", "content": "x"}]})"),
              HasSubstr("assistant"));
  EXPECT_THAT(error(R"({"max_tokens": 1, "temperature": 1.5, "messages": []})"),
              HasSubstr("temperature is 1.5"));
}

TEST(AnthropicTest, StreamsEventsInOrder) {
  const auto answer = MakeAnswer({.stream = true}, kHead);
  std::vector<std::string> types;
  std::string text;
  json last_delta;
  const std::string all = All(*answer);
  for (absl::string_view event : absl::StrSplit(absl::StripSuffix(all, "\n\n"), "\n\n")) {
    const std::vector<absl::string_view> lines = absl::StrSplit(event, absl::MaxSplits('\n', 1));
    ASSERT_EQ(lines.size(), 2u) << event;
    const json data = json::parse(std::string(absl::StripPrefix(lines[1], "data: ")));
    EXPECT_EQ("event: " + data["type"].get<std::string>(), lines[0]);
    types.push_back(data["type"]);
    if (types.back() == "content_block_delta") text += data["delta"]["text"].get<std::string>();
    if (types.back() == "message_delta") last_delta = data;
  }
  EXPECT_EQ(types,
            (std::vector<std::string>{"message_start", "content_block_start", "content_block_delta",
                                      "content_block_delta", "content_block_stop", "message_delta",
                                      "message_stop"}));
  EXPECT_EQ(text, "a\"b");
  EXPECT_EQ(last_delta["delta"],
            json::parse(R"({"stop_reason": "stop_sequence", "stop_sequence": "\n"})"));
  EXPECT_EQ(last_delta["usage"]["output_tokens"], 4);
}

TEST(AnthropicTest, WholeAnswer) {
  const json body = json::parse(All(*MakeAnswer({}, kHead)));
  EXPECT_EQ(body["id"], "msg_7");
  EXPECT_EQ(body["content"], json::parse(R"([{"type": "text", "text": "a\"b"}])"));
  EXPECT_EQ(body["usage"]["input_tokens"], 1) << "what the cache had is counted beside it";
  EXPECT_EQ(body["usage"]["cache_read_input_tokens"], 2);
}

}  // namespace
}  // namespace pregate::gateway::anthropic
