// A model's chat template, which is recognised and never run.
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::chat_template {
namespace {

bool Run(std::string_view input) {
  BpeTokenizerSpec spec = TinyBpe();
  spec.chat_template = input;
  const auto tokenizer = MakeBpeTokenizer(std::move(spec));
  if (!tokenizer.ok()) return false;
  const ChatMessage chat[] = {{"system", "Hello"}, {"user", "world"}};
  return (*tokenizer)->ApplyChatTemplate(chat, /*add_generation_prompt=*/true).ok();
}

const Registration registration({
    .name = "chat_template",
    .seeds = [] { return std::vector<std::string>{kSmolLmTemplate}; },
    .run = Run,
    .bytes_max = 1024,
});

}  // namespace
}  // namespace pregate::fuzz::chat_template
