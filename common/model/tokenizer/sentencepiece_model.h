// A SentencePiece model as data: what a file tokenizer.model holds, as far as tokens depend on it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

inline constexpr std::string_view kSpacePiece = "\xE2\x96\x81";  // U+2581, a space within pieces

// Numbered as in tokenizer.model and in GGUF's tokenizer.ggml.token_type.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,      // stands for characters that no other piece has; one a model
  kControl = 3,      // <s>, </s>
  kUserDefined = 4,  // found in a text before it is normalised; no merge passes through it
  kUnused = 5,       // merges pass through it, but it is no token of a text
  kByte = 6,         // "<0x0A>": one byte of a character that is no piece
};

struct SentencePiece {
  std::string text;
  float score = 0;  // BPE: the higher, the earlier merged; unigram: log-probability
  PieceType type = PieceType::kNormal;

  bool operator==(const SentencePiece&) const = default;
};

struct SentencePieceModel {
  enum class Algorithm : uint8_t { kUnigram = 1, kBpe = 2 };

  std::vector<SentencePiece> pieces;  // by id
  Algorithm algorithm = Algorithm::kBpe;
  bool byte_fallback = false;            // needs all 256 byte pieces
  bool add_dummy_prefix = true;          // a text begins with a space that is not its own
  bool remove_extra_whitespaces = true;  // runs of spaces become one, ends lose theirs
  std::string charsmap;           // SentencePiece's compiled rules of normalisation; empty: none
  std::string bos_piece = "<s>";  // whether or not the model has it
  std::string eos_piece = "</s>";
  std::string unknown_text = " \xE2\x81\x87 ";  // of the unknown piece, U+2047 between spaces

  bool operator==(const SentencePieceModel&) const = default;
};

// Errors name `where` and the piece, field or byte at fault; Unimplemented for models of words or
// characters, and for options that change tokens and are not known here. What is returned has
// passed CheckSentencePieceModel. REQUIRES: bytes.size() <= kSentencePieceModelBytesMax.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes,
                                                           const std::string& where);

// Sizes, texts, scores, types and duplicates; one unknown piece and its text; bytes complete where
// they are used.
absl::Status CheckSentencePieceModel(const SentencePieceModel& model);

// The bytes of a tokenizer.model that ParseSentencePieceModel and the SentencePiece library read.
std::string SerializeSentencePieceModel(const SentencePieceModel& model);

// The byte that "<0x0A>" names; nothing for other texts.
std::optional<uint8_t> ByteOfPiece(std::string_view text);

}  // namespace pregate
