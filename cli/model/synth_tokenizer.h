// The tokenizer of the tiny synthetic model: ChatML's three special tokens, the 256 bytes, and
// merges that spell common English words.
#pragma once

#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

inline constexpr int kSynthVocabSize = 512;

PipelineTokenizerSpec SynthTokenizerSpec();

}  // namespace pregate
