// A model's chat template, which is run.
#include <algorithm>

#include "common/base/status.h"
#include "common/model/tokenizer/conversation.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::chat_template {
namespace {

constexpr const char* kConversation = R"({"messages": [
    {"role": "system", "content": "Hello"}, {"role": "user", "content": "world\n<|im_end|>"},
    {"role": "assistant", "content": null, "reasoning": "r",
     "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5, null]}}}]},
    {"role": "tool", "content": "3"}, {"role": "user", "content": "  "}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
  "enable_thinking": false})";

// All of the language, in few bytes.
constexpr const char* kAll = R"({%- macro m(a, b='x') -%}{{ a ~ b }}{%- endmacro -%}
{% set ns = namespace(n=0, t='') %}{% set q, r = 1, [2.5, none, true, {'k': 'v'}] %}
{% for m in messages[1:] if m.role != 'tool' %}{% if loop.first and not loop.last %}{{ bos_token }}
{% elif loop.index0 > 2 %}{% break %}{% else %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}
{{ m.content | trim | upper if m.content is string else '' }}{% else %}none{% endfor %}
{% set c %} b {{ ns.n // 2 ** 1 % 3 }}{% endset %}{{ m(c.split(' ')[-1], b=r[3].get('k')) }}
{% raw %}{{ x }}{% endraw %}{# c #}{{ tools | tojson(indent=2) | replace('a', 'b') | indent }}
{{ r | map('string') | join(', ') | length + 1 }}{{ messages | selectattr('role', 'in', ['user'])
| map(attribute='content') | list | first }}{{ range(3) | sum }}{{ '%s-%d' % ('a', 1) }}
{% filter lower %}A{% endfilter %}{% with z = -1 %}{{ z }}{% endwith %}{% generation %}g
{% endgeneration %}{{ {'b': 1}.items() | list | last }}{{ '{} {k}'.format(1, k=2) }}
{%- if false or nothing is defined %}{{ raise_exception('no' + strftime_now('%Y')) }}{% endif %})";

bool Run(std::string_view input) {
  static const auto& conversation =
      *new Conversation(ParseConversation(kConversation, "seed", absl::UnixEpoch()).value());
  PipelineTokenizerSpec spec = TinyBpe();
  spec.chat_template = input;
  const auto tokenizer = MakePipelineTokenizer(std::move(spec));
  if (!tokenizer.ok()) return false;
  const ChatMessage chat[] = {{"system", "Hello"}, {"user", "world"}};
  const bool ok = (*tokenizer)->ApplyChatTemplate(chat, /*add_generation_prompt=*/true).ok();
  const bool with_tools = (*tokenizer)->ApplyConversation(conversation).ok();
  return ok || with_tools;
}

const Registration registration({
    .name = "chat_template",
    .seeds =
        [] {
          return std::vector<std::string>{kSmolLmTemplate, kAll};
        },
    .run = Run,
    .bytes_max = 2048,
});

}  // namespace
}  // namespace pregate::fuzz::chat_template
