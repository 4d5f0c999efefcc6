// The tokenizer of synthetic models: ChatML's three special tokens, the 256 bytes, merges that spell
// common English words, and numbered words that no text becomes.
#pragma once

#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

inline constexpr int kSynthVocabSize = 512;  // without numbered words

// REQUIRES: vocab_size >= kSynthVocabSize.
PipelineTokenizerSpec SynthTokenizerSpec(int vocab_size);

}  // namespace pregate
