// GGUF files: whole models, and vocabularies by themselves.
#include "common/model/formats/gguf.h"

#include <cstring>

#include "common/base/status.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::gguf {
namespace {

constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8, kBF16 = 30;

uint64_t BytesOf(uint32_t type, uint64_t elements) {
  switch (type) {
    case kF32:
      return 4 * elements;
    case kQ4_0:
      return elements / 32 * 18;
    case kQ4_1:
      return elements / 32 * 20;
    case kQ8_0:
      return elements / 32 * 34;
    default:
      return 2 * elements;
  }
}

// One layer, two heads on one, FFN as wide as the hidden state, vocabulary 4. Matrices take the
// types in turn.
std::string SmallModel(uint32_t hidden, const std::vector<uint32_t>& types) {
  GgufBuilder file;
  file.Str("general.architecture", "llama")
      .U32("llama.block_count", 1)
      .U32("llama.context_length", 64)
      .U32("llama.embedding_length", hidden)
      .U32("llama.feed_forward_length", hidden)
      .U32("llama.attention.head_count", 2)
      .U32("llama.attention.head_count_kv", 1)
      .F32("llama.rope.freq_base", 10000)
      .U32("llama.rope.dimension_count", hidden / 2)
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  size_t num_matrices = 0;
  const auto matrix = [&](const char* name, uint64_t rows) {
    const uint32_t type = types[num_matrices++ % types.size()];
    file.Tensor(name, type, {hidden, rows}, std::string(BytesOf(type, hidden * rows), '\1'));
  };
  const auto norm = [&](const char* name) {
    file.Tensor(name, kF32, {hidden}, std::string(BytesOf(kF32, hidden), '\1'));
  };
  matrix("token_embd.weight", 4);
  norm("output_norm.weight");
  norm("blk.0.attn_norm.weight");
  matrix("blk.0.attn_q.weight", hidden);
  matrix("blk.0.attn_k.weight", hidden / 2);
  matrix("blk.0.attn_v.weight", hidden / 2);
  matrix("blk.0.attn_output.weight", hidden);
  norm("blk.0.ffn_norm.weight");
  matrix("blk.0.ffn_gate.weight", hidden);
  matrix("blk.0.ffn_up.weight", hidden);
  matrix("blk.0.ffn_down.weight", hidden);
  return file.Build();
}

std::string BpeVocabulary(const BpeTokenizerSpec& spec) {
  GgufBuilder file;
  std::vector<std::string> merges;
  for (const auto& [left, right] : spec.merges) merges.push_back(left + " " + right);
  std::vector<int32_t> types(spec.tokens.size(), 1);
  for (const AddedToken& token : spec.added) {
    if (token.special) types[token.id] = 3;
  }
  file.Str("general.architecture", "llama")
      .Str("tokenizer.ggml.model", "gpt2")
      .Str("tokenizer.ggml.pre", spec.pre_tokenizer)
      .Strings("tokenizer.ggml.tokens", spec.tokens)
      .Strings("tokenizer.ggml.merges", merges)
      .Raw("tokenizer.ggml.token_type", kGgufArray, GgufArray(kGgufInt32, types))
      .Raw("tokenizer.ggml.add_bos_token", kGgufBool, "\1")
      .U32("tokenizer.ggml.bos_token_id", *spec.bos)
      .U32("tokenizer.ggml.eos_token_id", *spec.eos)
      .Str("tokenizer.chat_template", spec.chat_template);
  return file.Build();
}

std::vector<std::string> Seeds() {
  // Hidden 32 is one block of the quantised types.
  std::vector<std::string> seeds = {SmallModel(4, {kF16, kBF16, kF32}),
                                    SmallModel(32, {kQ4_0, kQ4_1, kQ8_0})};
  seeds.push_back(BpeVocabulary(TinyBpe()));
  seeds.push_back(GgufVocabulary(TinySentencePiece()).Build());
  return seeds;
}

bool Run(std::string_view input) {
  static const MemoryFile memory;
  const std::string& path = memory.Holding(input);
  const auto file = GgufFile::Open(path);
  if (!file.ok()) return false;
  const auto tokenizer = LoadGgufTokenizer(**file);
  if (tokenizer.ok()) Use(**tokenizer);
  if ((*file)->tensors().empty()) return tokenizer.ok();
  const auto checkpoint = Checkpoint::Open(path);
  if (checkpoint.ok()) Use(**checkpoint);
  return checkpoint.ok();
}

const Registration registration(
    {.name = "gguf", .seeds = Seeds, .run = Run, .mutate = MutateGguf, .bytes_max = 8192});

}  // namespace
}  // namespace pregate::fuzz::gguf
