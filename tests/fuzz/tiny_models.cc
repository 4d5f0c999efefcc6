#include "tests/fuzz/tiny_models.h"

#include "common/model/tokenizer/testing/small_vocabulary.h"

namespace pregate::fuzz {

PipelineTokenizerSpec TinyBpe() {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (const TokenId id : {kEndOfText, kTurnStartId, kTurnEndId}) {
    spec.added.push_back({.id = id, .text = spec.tokens[id], .special = true});
  }
  for (const char c : std::string_view("Helo wrd1\n\xC3\xA9")) {
    spec.tokens.push_back(AlphabetFromByte(static_cast<uint8_t>(c)));
  }
  AddMerge("l", "l", &spec);
  AddMerge("H", "e", &spec);
  AddMerge("He", "ll", &spec);
  AddMerge(" ", "w", &spec);
  spec.added.push_back({.id = static_cast<TokenId>(spec.tokens.size()), .text = "123"});
  spec.pre_tokenizer = "smollm";
  spec.chat_template = kSmolLmTemplate;
  spec.bos = kTurnStartId;
  spec.eos = kTurnEndId;
  return spec;
}

SentencePieceTokenizerSpec TinySentencePiece() {
  SentencePieceTokenizerSpec spec;
  auto& pieces = spec.model.pieces;
  pieces = {{"<unk>", 0, PieceType::kUnknown},
            {"<s>", 0, PieceType::kControl},
            {"</s>", 0, PieceType::kControl},
            {"<|im_end|>", 0, PieceType::kUserDefined}};
  float score = 0;
  for (const char* text :
       {"He", "ll", "\xE2\x96\x81w", "Hell", "\xE2\x96\x81", "o", "l", "\xC3\xA9"}) {
    pieces.push_back({text, score--, PieceType::kNormal});
  }
  pieces.push_back({"orl", score, PieceType::kUnused});
  pieces.push_back({"123", score, PieceType::kUserDefined});
  spec.model.remove_extra_whitespaces = false;
  spec.bos = 1;
  spec.eos = 2;
  spec.add_bos = true;
  return spec;
}

ModelSpec TinyDense() {
  ModelSpec spec;
  spec.vocab_size = 3;
  spec.hidden = 4;
  spec.intermediate = 4;
  spec.num_layers = 1;
  spec.num_heads = 2;
  spec.num_kv_heads = 1;
  spec.head_dim = 2;
  spec.max_position = 16;
  spec.eos_tokens = {2};
  return spec;
}

}  // namespace pregate::fuzz
