// Vocabularies as small as they can be and still use every feature: mutations of large ones rarely
// hit anything.
#pragma once

#include "common/model/tokenizer.h"

namespace pregate::fuzz {

BpeTokenizerSpec TinyBpe();
SentencePieceTokenizerSpec TinySentencePiece();  // BPE, without bytes

}  // namespace pregate::fuzz
