// Vocabularies and a model as small as they can be and still use every feature: mutations of large
// ones rarely hit anything.
#pragma once

#include "common/model/spec/spec.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::fuzz {

PipelineTokenizerSpec TinyBpe();
SentencePieceTokenizerSpec TinySentencePiece();  // BPE, without bytes
ModelSpec TinyDense();                           // one layer of hidden 4, vocabulary 3

}  // namespace pregate::fuzz
