#include "common/model/tokenizer/sentencepiece_model.h"

#include <array>
#include <cmath>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "common/base/limits.h"
#include "common/base/proto_wire.h"
#include "common/base/status.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

// Field numbers of sentencepiece_model.proto.
constexpr uint32_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3, kDenormalizerSpec = 5;
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr uint32_t kModelType = 3, kVocabSize = 4, kWhitespaceAsSuffix = 24, kByteFallback = 35;
constexpr uint32_t kUnkId = 40, kBosId = 41, kEosId = 42, kPadId = 43;
constexpr uint32_t kUnkSurface = 44, kUnkPiece = 45, kBosPiece = 46, kEosPiece = 47;
constexpr uint32_t kNormalizerName = 1, kCharsmap = 2, kAddDummyPrefix = 3, kRemoveExtra = 4,
                   kEscapeWhitespaces = 5;

constexpr float kScoreMax = 1e15f;  // sums over the longest text stay finite

std::string PieceExcerpt(std::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(std::string(text.substr(0, 64))), "\"");
}

absl::Status ReadPiece(WireReader reader, SentencePieceModel* model) {
  const size_t id = model->pieces.size();
  if (id == static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kVocabSizeMax, " pieces"));
  }
  SentencePiece piece;
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.number == kPieceText) {
      RETURN_IF_ERROR(reader.Expect(field, WireType::kBytes));
      piece.text = std::string(field.bytes);
    } else if (field.number == kPieceScore) {
      RETURN_IF_ERROR(reader.Expect(field, WireType::kFixed32));
      piece.score = field.AsFloat();
    } else if (field.number == kPieceType) {
      RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
      if (field.value < 1 || field.value > 6) {
        return absl::InvalidArgumentError(
            absl::StrCat("piece ", id, ": type ", field.value, ", expected 1 to 6"));
      }
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  model->pieces.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status ReadModelType(uint64_t type, SentencePieceModel* model) {
  if (type != 1 && type != 2) {
    return absl::UnimplementedError(
        absl::StrCat("trainer_spec.model_type ", type, " (1, unigram, and 2, BPE, are supported)"));
  }
  model->algorithm = static_cast<SentencePieceModel::Algorithm>(type);
  return absl::OkStatus();
}

absl::Status ReadTrainerSpec(WireReader reader, SentencePieceModel* model) {
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    switch (field.number) {
      case kModelType:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
        RETURN_IF_ERROR(ReadModelType(field.value, model));
        break;
      case kWhitespaceAsSuffix:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
        if (field.value != 0) {
          return absl::UnimplementedError("trainer_spec.treat_whitespace_as_suffix is set");
        }
        break;
      case kByteFallback:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
        model->byte_fallback = field.value != 0;
        break;
      case kBosPiece:
      case kEosPiece:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kBytes));
        (field.number == kBosPiece ? model->bos_piece : model->eos_piece) =
            std::string(field.bytes);
        break;
      case kUnkSurface:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kBytes));
        model->unknown_text = std::string(field.bytes);
        break;
      default:
        break;
    }
  }
  return absl::OkStatus();
}

absl::Status ReadNormalizerSpec(WireReader reader, SentencePieceModel* model) {
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    switch (field.number) {
      case kCharsmap:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kBytes));
        model->charsmap = std::string(field.bytes);
        break;
      case kAddDummyPrefix:
      case kRemoveExtra:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
        (field.number == kAddDummyPrefix ? model->add_dummy_prefix
                                         : model->remove_extra_whitespaces) = field.value != 0;
        break;
      case kEscapeWhitespaces:
        RETURN_IF_ERROR(reader.Expect(field, WireType::kVarint));
        if (field.value == 0) {
          return absl::UnimplementedError("normalizer_spec.escape_whitespaces is not set");
        }
        break;
      default:
        break;
    }
  }
  return absl::OkStatus();
}

// Rules that change text when it is decoded.
absl::Status CheckDenormalizerSpec(WireReader reader) {
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.number == kCharsmap && !field.bytes.empty()) {
      return absl::UnimplementedError("denormalizer_spec has rules");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadModel(WireReader reader, SentencePieceModel* model) {
  while (!reader.AtEnd()) {
    ASSIGN_OR_RETURN(const WireField field, reader.Next());
    if (field.number != kPieces && field.number != kTrainerSpec &&
        field.number != kNormalizerSpec && field.number != kDenormalizerSpec) {
      continue;
    }
    RETURN_IF_ERROR(reader.Expect(field, WireType::kBytes));
    const WireReader inner = reader.Inner(field);
    if (field.number == kPieces) RETURN_IF_ERROR(ReadPiece(inner, model));
    if (field.number == kTrainerSpec) RETURN_IF_ERROR(ReadTrainerSpec(inner, model));
    if (field.number == kNormalizerSpec) RETURN_IF_ERROR(ReadNormalizerSpec(inner, model));
    if (field.number == kDenormalizerSpec) RETURN_IF_ERROR(CheckDenormalizerSpec(inner));
  }
  return CheckSentencePieceModel(*model);
}

absl::Status CheckPiece(size_t id, const SentencePiece& piece, bool byte_fallback) {
  const std::string where = absl::StrCat("piece ", id, " ", PieceExcerpt(piece.text));
  if (piece.text.empty() || piece.text.size() > kTokenTextBytesMax || !IsUtf8(piece.text)) {
    return absl::InvalidArgumentError(absl::StrCat(where, " of ", piece.text.size(),
                                                   " bytes: expected UTF-8 of 1 to ",
                                                   kTokenTextBytesMax, " bytes"));
  }
  if (!(std::fabs(piece.score) <= kScoreMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": score ", piece.score, ", expected -", kScoreMax, " to ", kScoreMax));
  }
  if (piece.type != PieceType::kByte) return absl::OkStatus();
  if (!ByteOfPiece(piece.text)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": is no byte, expected \"<0x0A>\""));
  }
  if (byte_fallback) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": a byte without byte_fallback"));
}

// The names of normal pieces and of the others are two worlds, as in the library: text that spells
// a control piece may be a normal one.
absl::Status CheckDuplicates(const SentencePieceModel& model) {
  absl::flat_hash_map<std::string_view, size_t> texts, reserved;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    const bool is_text = piece.type == PieceType::kNormal || piece.type == PieceType::kUnused ||
                         piece.type == PieceType::kUserDefined;
    const auto [other, added] = (is_text ? texts : reserved).emplace(piece.text, id);
    if (added) continue;
    return absl::InvalidArgumentError(absl::StrCat("piece ", id, " ", PieceExcerpt(piece.text),
                                                   " is piece ", other->second, " too"));
  }
  return absl::OkStatus();
}

absl::Status CheckBytes(const SentencePieceModel& model) {
  if (!model.byte_fallback) return absl::OkStatus();
  std::array<bool, 256> found{};
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == PieceType::kByte) found[*ByteOfPiece(piece.text)] = true;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (found[byte]) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("byte_fallback is set, but no piece is the byte <0x%02X>", byte));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<uint8_t> ByteOfPiece(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int byte = 0;
  for (const char c : text.substr(3, 2)) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'A' || c > 'F')) return std::nullopt;
    byte = 16 * byte + (is_digit ? c - '0' : c - 'A' + 10);
  }
  return static_cast<uint8_t>(byte);
}

absl::Status CheckSentencePieceModel(const SentencePieceModel& model) {
  if (model.pieces.empty() || model.pieces.size() > static_cast<size_t>(kVocabSizeMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.pieces.size(), " pieces, expected 1 to ", kVocabSizeMax));
  }
  int num_unknown = 0;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    RETURN_IF_ERROR(CheckPiece(id, model.pieces[id], model.byte_fallback));
    num_unknown += model.pieces[id].type == PieceType::kUnknown;
  }
  if (num_unknown != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(num_unknown, " unknown pieces (type 2), expected one"));
  }
  if (model.unknown_text.size() > kTokenTextBytesMax || !IsUtf8(model.unknown_text)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unk_surface ", PieceExcerpt(model.unknown_text), " of ", model.unknown_text.size(),
        " bytes: expected UTF-8 of at most ", kTokenTextBytesMax, " bytes"));
  }
  RETURN_IF_ERROR(CheckDuplicates(model));
  return CheckBytes(model);
}

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes,
                                                           const std::string& where) {
  // The defaults of the format, not those of a Llama.
  SentencePieceModel model{.algorithm = SentencePieceModel::Algorithm::kUnigram};
  const absl::Status status = ReadModel(WireReader(bytes, "wire format"), &model);
  if (status.ok()) return model;
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

namespace {

uint64_t WireInt(int64_t value) { return static_cast<uint64_t>(value); }

// -1 where the model lacks it, as the format wants it.
int64_t IdOf(const SentencePieceModel& model, PieceType type, std::string_view text) {
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.type == type && (text.empty() || piece.text == text)) {
      return static_cast<int64_t>(id);
    }
  }
  return -1;
}

std::string TrainerSpec(const SentencePieceModel& model) {
  std::string out;
  const int64_t unknown = IdOf(model, PieceType::kUnknown, "");
  AppendWireVarint(kModelType, static_cast<uint64_t>(model.algorithm), &out);
  AppendWireVarint(kVocabSize, model.pieces.size(), &out);
  AppendWireVarint(kByteFallback, model.byte_fallback, &out);
  AppendWireVarint(kUnkId, WireInt(unknown), &out);
  AppendWireVarint(kBosId, WireInt(IdOf(model, PieceType::kControl, model.bos_piece)), &out);
  AppendWireVarint(kEosId, WireInt(IdOf(model, PieceType::kControl, model.eos_piece)), &out);
  AppendWireVarint(kPadId, WireInt(-1), &out);
  AppendWireBytes(kUnkSurface, model.unknown_text, &out);
  if (unknown >= 0) AppendWireBytes(kUnkPiece, model.pieces[unknown].text, &out);
  AppendWireBytes(kBosPiece, model.bos_piece, &out);
  AppendWireBytes(kEosPiece, model.eos_piece, &out);
  return out;
}

std::string NormalizerSpec(const SentencePieceModel& model) {
  std::string out;
  AppendWireBytes(kNormalizerName, model.charsmap.empty() ? "identity" : "user_defined", &out);
  AppendWireBytes(kCharsmap, model.charsmap, &out);
  AppendWireVarint(kAddDummyPrefix, model.add_dummy_prefix, &out);
  AppendWireVarint(kRemoveExtra, model.remove_extra_whitespaces, &out);
  AppendWireVarint(kEscapeWhitespaces, 1, &out);
  return out;
}

}  // namespace

std::string SerializeSentencePieceModel(const SentencePieceModel& model) {
  std::string out;
  for (const SentencePiece& piece : model.pieces) {
    std::string inner;
    AppendWireBytes(kPieceText, piece.text, &inner);
    AppendWireFloat(kPieceScore, piece.score, &inner);
    AppendWireVarint(kPieceType, static_cast<uint64_t>(piece.type), &inner);
    AppendWireBytes(kPieces, inner, &out);
  }
  AppendWireBytes(kTrainerSpec, TrainerSpec(model), &out);
  AppendWireBytes(kNormalizerSpec, NormalizerSpec(model), &out);
  return out;
}

}  // namespace pregate
