#include "cli/model/synth_tokenizer.h"

#include <string_view>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"

namespace pregate {
namespace {

constexpr absl::string_view kWords =
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had "
    "an they which one you were her all she there would their we him been has when who will more "
    "no if "
    "out so said what up its about into than them can only other new some could time these two may "
    "then "
    "do first any my now such like our over man me even most made after also did many before must "
    "through back years where much your way well down should because each just those people how "
    "too "
    "little state good very make world still own see men work long get here between both life "
    "being "
    "under never day same another know while last might us great old year off come since against "
    "go "
    "came right used take three";

// The merges that build ` word` from its letters, left to right; pairs that exist already are not
// repeated.
class MergeBuilder {
 public:
  explicit MergeBuilder(PipelineTokenizerSpec* spec) : spec_(spec) {}

  void AddWord(absl::string_view word) {
    std::string left = AlphabetFromByte(' ');
    for (const char c : word) {
      const std::string right(1, c);
      if (static_cast<int>(spec_->tokens.size()) == kSynthVocabSize) return;
      if (known_.insert(left + right).second) {
        spec_->merges.emplace_back(left, right);
        spec_->tokens.push_back(left + right);
      }
      left += right;
    }
  }

 private:
  PipelineTokenizerSpec* spec_;
  std::unordered_set<std::string> known_;
};

}  // namespace

PipelineTokenizerSpec SynthTokenizerSpec(int vocab_size) {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (TokenId id = 0; id < 3; ++id) {
    spec.added.push_back({.id = id, .text = spec.tokens[id], .special = true});
  }
  for (int byte = 0; byte < 256; ++byte) {
    spec.tokens.push_back(AlphabetFromByte(static_cast<uint8_t>(byte)));
  }
  MergeBuilder merges(&spec);
  for (const absl::string_view word : absl::StrSplit(kWords, ' ')) merges.AddWord(word);
  PREGATE_CHECK(static_cast<int>(spec.tokens.size()) == kSynthVocabSize, "too few words");
  for (int id = kSynthVocabSize; id < vocab_size; ++id) {
    spec.tokens.push_back(absl::StrCat(AlphabetFromByte(' '), "word", id));
  }
  spec.pre_tokenizer = "smollm";
  spec.chat_template =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
      "message['content'] + "
      "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|im_start|>assistant\\n' }}{% endif %}";
  spec.bos = 1;
  spec.eos = 2;
  return spec;
}

}  // namespace pregate
