// What a program does with a checkpoint and a tokenizer that it has opened, for every format that
// holds one.
#pragma once

#include "common/model/formats/checkpoint.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::fuzz {

// Reads every tensor, and the tokenizer where there is one.
void Use(const Checkpoint& checkpoint);

// Encodes and decodes texts, in one piece and streaming, whole conversations too. Ids are the
// vocabulary's, and text is UTF-8.
void Use(const Tokenizer& tokenizer);

}  // namespace pregate::fuzz
