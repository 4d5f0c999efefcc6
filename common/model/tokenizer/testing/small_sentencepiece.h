// A SentencePiece vocabulary for tests, laid out as Llama-2's: <unk>, <s>, </s>, the 256 bytes, a
// few pieces with falling scores.
#pragma once

#include <string>

#include "absl/strings/str_format.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

inline constexpr TokenId kUnkPieceId = 0, kBosPieceId = 1, kEosPieceId = 2;
inline constexpr TokenId kFirstBytePieceId = 3;  // byte b has the id kFirstBytePieceId + b
inline constexpr TokenId kFirstTextPieceId = 259;

inline SentencePieceTokenizerSpec SmallSentencePiece() {
  SentencePieceTokenizerSpec spec;
  auto& pieces = spec.model.pieces;
  pieces = {{"<unk>", 0, PieceType::kUnknown},
            {"<s>", 0, PieceType::kControl},
            {"</s>", 0, PieceType::kControl}};
  for (int byte = 0; byte < 256; ++byte) {
    pieces.push_back({absl::StrFormat("<0x%02X>", byte), 0, PieceType::kByte});
  }
  float score = 0;
  for (const char* text :
       {"he", "ll", "▁w", "hell", "hello", "▁hello", "or", "ld", "▁wor", "▁world", "▁▁", "▁", "h",
        "e",  "l",  "o",  "w",    "r",     "d",      "é",  "<",  ">",    "s",      "/",  "|"}) {
    pieces.push_back({text, score--, PieceType::kNormal});
  }
  spec.model.byte_fallback = true;
  spec.model.remove_extra_whitespaces = false;
  spec.bos = kBosPieceId;
  spec.eos = kEosPieceId;
  spec.add_bos = true;
  return spec;
}

}  // namespace pregate
