// GGUF metadata of a SentencePiece tokenizer ("llama"), for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// The bytes of an array of 32-bit numbers, `element_type` being GGUF's number of their type.
template <typename T>
std::string GgufArray(uint32_t element_type, const std::vector<T>& values) {
  static_assert(sizeof(T) == 4);
  const uint64_t count = values.size();
  std::string bytes(sizeof element_type + sizeof count + count * sizeof(T), '\0');
  std::memcpy(bytes.data(), &element_type, sizeof element_type);
  std::memcpy(bytes.data() + sizeof element_type, &count, sizeof count);
  if (count > 0) std::memcpy(bytes.data() + 12, values.data(), count * sizeof(T));
  return bytes;
}

inline constexpr uint32_t kGgufInt32 = 5, kGgufFloat32 = 6, kGgufBool = 7, kGgufArray = 9;

inline void AddGgufSentencePiece(const SentencePieceTokenizerSpec& spec, GgufBuilder* file) {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<int32_t> types;
  for (const SentencePiece& piece : spec.model.pieces) {
    tokens.push_back(piece.text);
    scores.push_back(piece.score);
    types.push_back(static_cast<int32_t>(piece.type));
  }
  file->Str("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", tokens)
      .Raw("tokenizer.ggml.scores", kGgufArray, GgufArray(kGgufFloat32, scores))
      .Raw("tokenizer.ggml.token_type", kGgufArray, GgufArray(kGgufInt32, types));
  if (spec.bos) file->U32("tokenizer.ggml.bos_token_id", *spec.bos);
  if (spec.eos) file->U32("tokenizer.ggml.eos_token_id", *spec.eos);
  if (!spec.chat_template.empty()) file->Str("tokenizer.chat_template", spec.chat_template);
  for (const auto& [name, source] : spec.chat_variables.more_templates) {
    file->Str("tokenizer.chat_template." + name, source);
  }
}

inline GgufBuilder GgufVocabulary(const SentencePieceTokenizerSpec& spec) {
  GgufBuilder file;
  file.Str("general.architecture", "llama");
  AddGgufSentencePiece(spec, &file);
  return file;
}

}  // namespace pregate
