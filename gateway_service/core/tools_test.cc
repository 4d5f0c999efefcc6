#include "gateway_service/core/tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/anthropic_answer.h"
#include "gateway_service/core/anthropic_request.h"
#include "gateway_service/core/openai_answer.h"
#include "gateway_service/core/openai_request.h"

namespace pregate::gateway {
namespace {

using ::testing::HasSubstr;

const ToolFormat kHermes = {.name = "hermes", .begin = "<tool_call>", .end = "</tool_call>"};
constexpr char kCall[] = R"(<tool_call>{"name":"f","arguments":{"x":1}}</tool_call>)";

absl::StatusOr<Generation> Chat(const std::string& members, const char* messages = nullptr) {
  return openai::ReadChatRequest(Json::parse(absl::StrCat(
      R"({"messages":)", messages == nullptr ? R"([{"role":"user","content":"x"}])" : messages,
      members, "}")));
}
absl::StatusOr<Generation> Claude(const std::string& members, const char* messages = nullptr) {
  return anthropic::ReadRequest(Json::parse(absl::StrCat(
      R"({"max_tokens":9,"messages":)",
      messages == nullptr ? R"([{"role":"user","content":"x"}])" : messages, members, "}")));
}

constexpr char kTools[] =
    R"(,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"x":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"integer"}}}}},{"type":"function","function":{"name":"g"}}])";

TEST(ToolsTest, BothApisGiveTemplatesTheSame) {
  const auto chat = Chat(
      R"(,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}])");
  const auto claude =
      Claude(R"(,"tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}])");
  ASSERT_TRUE(chat.ok() && claude.ok()) << chat.status() << claude.status();
  EXPECT_EQ(chat->tools, claude->tools);
  EXPECT_EQ(
      chat->tools[0].definition,
      R"({"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}})");
}

TEST(ToolsTest, BothApisTellOfCallsAndAnswers) {
  const auto chat = Chat("", R"([{"role":"user","content":"x"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"7"}])");
  const auto claude = Claude("", R"([{"role":"user","content":"x"},
      {"role":"assistant","content":[{"type":"tool_use","id":"c1","name":"f","input":{"x":1}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"c1","content":"7"}]}])");
  ASSERT_TRUE(chat.ok() && claude.ok()) << chat.status() << claude.status();
  EXPECT_EQ(chat->prompt, claude->prompt);
  const Conversation& messages = std::get<Conversation>(chat->prompt);
  ASSERT_EQ(messages.size(), 3);
  EXPECT_EQ(messages[1].tool_calls, (std::vector<ToolCall>{{"c1", "f", R"({"x":1})"}}));
  EXPECT_EQ(messages[2],
            (Message{.role = "tool", .content = "7", .tool_call_id = "c1", .name = "f"}));
}

TEST(ToolsTest, ARequiredCallHoldsTheTextToItsSchema) {
  auto any = Chat(absl::StrCat(kTools, R"(,"tool_choice":"required")"));
  ASSERT_TRUE(any.ok()) << any.status();
  ASSERT_TRUE(ApplyTools(&kHermes, "m", &*any).ok());
  const Json schema = Json::parse(std::get<JsonSchema>(any->constraint).text);
  EXPECT_EQ(schema["items"]["anyOf"].size(), 2);
  EXPECT_EQ(schema["$defs"]["0"]["properties"]["x"]["$ref"], "#/$defs/0/$defs/x");
  EXPECT_EQ(schema["$defs"]["1"]["type"], "object");
  EXPECT_GT(schema["maxItems"], 1);

  auto named =
      Chat(absl::StrCat(kTools, R"(,"tool_choice":{"type":"function","function":{"name":"g"}})"));
  ASSERT_TRUE(named.ok() && ApplyTools(&kHermes, "m", &*named).ok());
  const Json one = Json::parse(std::get<JsonSchema>(named->constraint).text);
  EXPECT_EQ(one["items"]["anyOf"][0]["properties"]["name"]["const"], "g");
  EXPECT_EQ(one["maxItems"], 1);
  EXPECT_EQ(named->tools.size(), 2);  // the template shows both
}

constexpr char kStrict[] =
    R"(,"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"x":{"type":"integer"}}}}},{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{"y":{"type":"integer"}}}}}])";

TEST(ToolsTest, AStrictToolsCallIsHeldToItsSchemaWhereTheModelMayCall) {
  auto chat = Chat(kStrict);
  ASSERT_TRUE(chat.ok()) << chat.status();
  ASSERT_TRUE(ApplyTools(&kHermes, "m", &*chat).ok());
  EXPECT_EQ(chat->tool_format, kHermes);
  const auto& marked = std::get<MarkedJson>(chat->constraint);
  EXPECT_EQ(marked.begin, "<tool_call>");
  EXPECT_EQ(marked.end, "</tool_call>");
  EXPECT_FALSE(marked.once);
  const Json schema = Json::parse(marked.schema.text);
  EXPECT_EQ(schema["anyOf"][0]["properties"]["arguments"]["$ref"], "#/$defs/0");
  EXPECT_TRUE(schema["$defs"]["0"].contains("properties"));
  EXPECT_FALSE(schema["$defs"]["1"].contains("properties"));  // any arguments

  auto one = Chat(absl::StrCat(kStrict, R"(,"parallel_tool_calls":false)"));
  ASSERT_TRUE(one.ok() && ApplyTools(&kHermes, "m", &*one).ok());
  EXPECT_TRUE(std::get<MarkedJson>(one->constraint).once);
}

TEST(ToolsTest, StrictIsRefusedWhereItCannotBeKept) {
  const ToolFormat mistral = {.name = "mistral", .begin = "[TOOL_CALLS]", .is_list = true};
  const ToolFormat llama = {.name = "llama3_json"};
  for (const ToolFormat* format : {&mistral, &llama}) {
    auto chat = Chat(kStrict);
    ASSERT_TRUE(chat.ok());
    EXPECT_THAT(ApplyTools(format, "m", &*chat).message(),
                HasSubstr(absl::StrCat("\"m\" writes calls as ", format->name)));
    // A call that must come has a form of its own.
    auto required = Chat(absl::StrCat(kStrict, R"(,"tool_choice":"required")"));
    ASSERT_TRUE(required.ok() && ApplyTools(format, "m", &*required).ok());
  }
  auto both = Chat(absl::StrCat(kStrict, R"(,"structured_outputs":{"regex":"a"})"));
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(ApplyTools(&kHermes, "m", &*both).message(), HasSubstr("another constraint"));
}

TEST(ToolsTest, NoneAndModelsWithoutAFormat) {
  auto none = Chat(absl::StrCat(kTools, R"(,"tool_choice":"none")"));
  ASSERT_TRUE(none.ok() && ApplyTools(nullptr, "m", &*none).ok());
  EXPECT_TRUE(none->tools.empty() && !none->tool_format);
  auto chat = Chat(kTools);
  EXPECT_THAT(ApplyTools(nullptr, "m", &*chat).message(), HasSubstr("by model \"m\""));
  ASSERT_TRUE(ApplyTools(&kHermes, "m", &*chat).ok());
  EXPECT_EQ(chat->tool_format, kHermes);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(chat->constraint));
}

TEST(ToolsTest, MistakesAreNamed) {
  const std::pair<std::string, const char*> kMistakes[] = {
      {R"(,"tools":{})", "tools is an object"},
      {R"(,"tools":[{"type":"custom","custom":{"name":"f"}}])", "tools[0].type is \"custom\""},
      {R"(,"tools":[{"type":"function","function":{"name":"a b"}}])",
       "tools[0].function.name is \"a b\""},
      {R"(,"tools":[{"type":"function","function":{"name":"f","parameters":3}}])",
       "tools[0].function.parameters is 3"},
      {R"(,"tools":[{"type":"function","function":{"name":"f","x":3}}])", "'tools[0].function.x'"},
      {absl::StrCat(kTools, R"(,"tool_choice":{"type":"function","function":{"name":"h"}})"),
       "tool_choice names \"h\""},
      {absl::StrCat(kTools, R"(,"tool_choice":"sometimes")"), "tool_choice is \"sometimes\""},
      {absl::StrCat(kTools, R"(,"tool_choice":{"type":"allowed_tools"})"),
       "tool_choice.type is \"allowed_tools\""},
      {R"(,"tool_choice":"required")", "tools has none"},
      {absl::StrCat(kTools, R"(,"response_format":{"type":"json_object"})"),
       "response_format goes"},
      {absl::StrCat(kTools,
                    R"(,"tool_choice":"required","response_format":{"type":"json_object"})"),
       "does not go with another constraint"},
      {absl::StrCat(kTools, R"(,"parallel_tool_calls":1)"), "parallel_tool_calls is 1"},
  };
  for (const auto& [members, expected] : kMistakes) {
    EXPECT_THAT(Chat(members).status().message(), HasSubstr(expected)) << members;
  }
  const std::pair<const char*, const char*> kMessages[] = {
      {R"([{"role":"tool","tool_call_id":"a","content":"x"}])",
       "messages[0].tool_call_id is \"a\", which no"},
      {R"([{"role":"tool","content":"x"}])", "messages[0].tool_call_id belongs"},
      {R"([{"role":"user","content":"x","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}])",
       "messages[0].tool_calls belongs"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"[]"}}]}])",
       "messages[0].tool_calls[0].function.arguments is \"[]\""},
      {R"([{"role":"assistant"}])", "messages[0].content is missing"},
  };
  for (const auto& [messages, expected] : kMessages) {
    EXPECT_THAT(Chat("", messages).status().message(), HasSubstr(expected)) << messages;
  }
  EXPECT_THAT(Claude(R"(,"tools":[{"type":"bash_20250124","name":"bash"}])").status().message(),
              HasSubstr("tools[0].type is \"bash_20250124\""));
  EXPECT_THAT(Claude("", R"([{"role":"user","content":[{"type":"tool_use"}]}])").status().message(),
              HasSubstr("messages[0].content[0].type is \"tool_use\""));
}

Generation WithFormat(absl::StatusOr<Generation> read, bool stream) {
  EXPECT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(ApplyTools(&kHermes, "m", &*read).ok());
  read->stream = stream;
  return *std::move(read);
}

// The answer to "Hm. CALL", in two messages.
std::string Answered(Answer& answer, EndReason reason = EndReason::kStopToken) {
  const std::string text = absl::StrCat("Hm. ", kCall);
  std::string out = answer.Start({});
  out += answer.Add({.ids = {1}, .text = text.substr(0, 20)});
  out += answer.Add({.ids = {2}, .text = text.substr(20)});
  return out + answer.Finish({.reason = reason});
}

TEST(ToolsTest, OpenAisAnswersHaveCalls) {
  const auto whole = openai::MakeAnswer(WithFormat(Chat(kTools), false), {.id = "r"});
  const Json choice = Json::parse(Answered(*whole))["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "Hm.");
  EXPECT_EQ(choice["message"]["tool_calls"][0]["function"]["arguments"], R"({"x":1})");
  EXPECT_EQ(choice["finish_reason"], "tool_calls");

  const auto stream = openai::MakeAnswer(WithFormat(Chat(kTools), true), {.id = "r"});
  const std::string chunks = Answered(*stream);
  EXPECT_THAT(chunks, HasSubstr(R"("delta":{"content":"Hm."})"));
  EXPECT_THAT(chunks, HasSubstr(R"("delta":{"tool_calls":[{"index":0,"id":")"));
  EXPECT_THAT(chunks, HasSubstr(R"("function":{"name":"f","arguments":""}}]})"));
  EXPECT_THAT(chunks,
              HasSubstr(R"("tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]})"));
  EXPECT_THAT(chunks, HasSubstr(R"("finish_reason":"tool_calls")"));

  const auto cut = openai::MakeAnswer(WithFormat(Chat(kTools), false), {.id = "r"});
  EXPECT_EQ(Json::parse(Answered(*cut, EndReason::kLength))["choices"][0]["finish_reason"],
            "length");
}

TEST(ToolsTest, AnthropicsAnswersHaveBlocks) {
  const std::string tools = R"(,"tools":[{"name":"f","input_schema":{"type":"object"}}])";
  const auto whole = anthropic::MakeAnswer(WithFormat(Claude(tools), false), {.id = "r"});
  const Json message = Json::parse(Answered(*whole));
  EXPECT_EQ(message["content"][0]["text"], "Hm.");
  EXPECT_EQ(message["content"][1]["input"]["x"], 1);
  EXPECT_EQ(message["stop_reason"], "tool_use");

  const auto stream = anthropic::MakeAnswer(WithFormat(Claude(tools), true), {.id = "r"});
  const std::string events = Answered(*stream);
  size_t at = 0;  // in this order
  for (const char* const part :
       {R"("index":0,"content_block":{"type":"text")", R"("index":0,"delta":{"type":"text_delta")",
        R"("type":"content_block_stop","index":0)",
        R"("index":1,"content_block":{"type":"tool_use")",
        R"("index":1,"delta":{"type":"input_json_delta","partial_json":"{\"x\":1}")",
        R"("type":"content_block_stop","index":1)", R"("stop_reason":"tool_use")"}) {
    at = events.find(part, at);
    ASSERT_NE(at, std::string::npos) << part << " in " << events;
  }
}

}  // namespace
}  // namespace pregate::gateway
