#include "common/model/tokenizer/tool_format.h"

#include <gtest/gtest.h>

#include "common/model/tokenizer/testing/small_vocabulary.h"

namespace pregate {
namespace {

std::unique_ptr<Tokenizer> WithTemplate(const std::string& source) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.chat_template = source;
  auto tokenizer = MakePipelineTokenizer(std::move(spec));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

// A template of a family's shape: tools, then messages with calls in `call`.
std::string Template(const std::string& call, const std::string& tools = "{{ tools | tojson }}") {
  return tools + "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}" + call +
         "{% endfor %}{% endfor %}";
}

constexpr char kHermes[] =
    "\n<tool_call>\n{{ '{\"name\": \"' + c.function.name + '\", \"arguments\": ' }}"
    "{{ c.function.arguments | tojson }}{{ '}' }}\n</tool_call>";
constexpr char kMistral[] =
    "[TOOL_CALLS] [{{ (c.function | tojson)[:-1] }}{{ ', \"id\": \"' + c.id + '\"}' }}]";
constexpr char kLlama[] =
    "{{ '{\"name\": \"' + c.function.name + '\", \"parameters\": ' }}"
    "{{ c.function.arguments | tojson }}{{ '}' }}";

TEST(ToolFormatTest, IsWhatTheTemplateMakesOfACall) {
  EXPECT_EQ(FindToolFormat(*WithTemplate(Template(kHermes))),
            (ToolFormat{.name = "hermes", .begin = "<tool_call>", .end = "</tool_call>"}));
  EXPECT_EQ(FindToolFormat(*WithTemplate(Template(kMistral))),
            (ToolFormat{.name = "mistral", .begin = "[TOOL_CALLS]", .is_list = true}));
  EXPECT_EQ(FindToolFormat(*WithTemplate(Template(kLlama))), ToolFormat{.name = "llama3_json"});
}

TEST(ToolFormatTest, ATemplateThatDropsSomethingHasNone) {
  EXPECT_EQ(FindToolFormat(*WithTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")),
            std::nullopt);
  EXPECT_EQ(FindToolFormat(*WithTemplate(Template(kHermes, ""))), std::nullopt);  // the tools
  EXPECT_EQ(FindToolFormat(*WithTemplate(Template("<tool_call><function={{ c.function.name }}>"))),
            std::nullopt);
  EXPECT_EQ(FindToolFormat(*WithTemplate("{{ tools }}{{ raise_exception('no') }}")), std::nullopt);
  PipelineTokenizerSpec without = SmallVocabulary();
  without.chat_template.clear();
  EXPECT_EQ(FindToolFormat(**MakePipelineTokenizer(without)), std::nullopt);
}

TEST(ToolFormatTest, AMarkThatIsASpecialTokenIsShown) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  spec.chat_template = Template(kMistral);
  const auto id = static_cast<TokenId>(spec.tokens.size());
  spec.tokens.push_back("[TOOL_CALLS]");
  spec.added.push_back({.id = id, .text = "[TOOL_CALLS]", .special = true});
  const auto made = MakePipelineTokenizer(spec);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto format = FindToolFormat(**made);
  ASSERT_TRUE(format.has_value());
  ASSERT_EQ(format->begin_token, id);

  std::vector<TokenId> ids = (*made)->Encode("he");
  IncrementalDecoder hidden(**made), shown(**made);
  shown.Show(id, format->begin);
  std::string without, with;
  for (const TokenId token : {ids[0], id, ids[0]}) {
    without += hidden.Add(token);
    with += shown.Add(token);
  }
  const std::string text = (*made)->Decode(absl::MakeConstSpan(ids).subspan(0, 1));
  EXPECT_EQ(without, text + text);
  EXPECT_EQ(with, text + "[TOOL_CALLS]" + text);
}

}  // namespace
}  // namespace pregate
