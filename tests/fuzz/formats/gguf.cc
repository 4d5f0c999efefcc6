// GGUF files: whole models, a part of a split one, and vocabularies by themselves.
#include "common/model/formats/gguf.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/gguf_sentencepiece.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::gguf {
namespace {

// One layer, two heads of 2 on one, FFN of one neuron, vocabulary 3. Matrices whose rows are as wide
// as the hidden state take the types in turn. `layer` receives the layer's tensors.
void AddSmallModel(uint32_t hidden, const std::vector<StoredType>& types, GgufBuilder* file,
                   GgufBuilder* layer) {
  file->Str("general.architecture", "llama")
      .U32("llama.block_count", 1)
      .U32("llama.context_length", 64)
      .U32("llama.embedding_length", hidden)
      .U32("llama.feed_forward_length", 1)
      .U32("llama.attention.head_count", 2)
      .U32("llama.attention.head_count_kv", 1)
      .U32("llama.attention.key_length", 2)
      .U32("llama.attention.value_length", 2)
      .F32("llama.rope.freq_base", 10000)
      .U32("llama.rope.dimension_count", 2)
      .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  const auto tensor = [](const char* name, StoredType type, std::vector<uint64_t> axes,
                         GgufBuilder* to) {
    const StoredFormat& format = FormatOf(type);
    uint64_t blocks = axes[0] / format.block.elements;
    if (axes.size() > 1) blocks *= axes[1];
    to->Tensor(name, format.gguf_number, axes, std::string(blocks * format.block.bytes, '\1'));
  };
  size_t num_matrices = 0;
  const auto matrix = [&](const char* name, uint64_t rows, GgufBuilder* to) {
    tensor(name, types[num_matrices++ % types.size()], {hidden, rows}, to);
  };
  matrix("token_embd.weight", 3, file);
  matrix("output.weight", 3, file);
  tensor("output_norm.weight", StoredType::kF16, {hidden}, file);
  tensor("blk.0.attn_norm.weight", StoredType::kF16, {hidden}, layer);
  matrix("blk.0.attn_q.weight", 4, layer);
  matrix("blk.0.attn_k.weight", 2, layer);
  matrix("blk.0.attn_v.weight", 2, layer);
  tensor("blk.0.attn_output.weight", StoredType::kF16, {4, hidden}, layer);
  tensor("blk.0.ffn_norm.weight", StoredType::kF16, {hidden}, layer);
  matrix("blk.0.ffn_gate.weight", 1, layer);
  matrix("blk.0.ffn_up.weight", 1, layer);
  tensor("blk.0.ffn_down.weight", StoredType::kF16, {1, hidden}, layer);
}
constexpr int kSmallModelTensors = 12;

std::string SmallModel(uint32_t hidden, const std::vector<StoredType>& types) {
  GgufBuilder file;
  AddSmallModel(hidden, types, &file, &file);
  return file.Build();
}

std::string BpeVocabulary(const PipelineTokenizerSpec& spec) {
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
  using enum StoredType;
  // Hidden 32 and 256 are one block.
  std::vector<std::string> seeds = {
      SmallModel(4, {kF16, kBF16, kF32}),
      SmallModel(32, {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kIQ4_NL, kMXFP4}),
      SmallModel(256, {kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kQ8_K, kIQ4_XS})};
  seeds.push_back(BpeVocabulary(TinyBpe()));
  seeds.push_back(GgufVocabulary(TinySentencePiece()).Build());
  return seeds;
}

// A model of two parts, one of which an input replaces.
const char* const kParts[] = {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"};

const ReplacedFile& SplitModel() {
  static const auto* files = [] {
    auto* out = new ReplacedFile;
    GgufBuilder parts[2];
    AddSmallModel(4, {StoredType::kF16, StoredType::kF32}, &parts[0], &parts[1]);
    const std::string dir = out->NewDirectory();
    std::filesystem::create_directory(dir);
    for (int i = 0; i < 2; ++i) {
      parts[i].U32("split.no", i).U32("split.count", 2);
      parts[i].U32("split.tensors.count", kSmallModelTensors);
      WriteFile(absl::StrCat(dir, "/", kParts[i]), parts[i].Build());
    }
    for (const char* part : kParts) out->Add(dir, part);
    return out;
  }();
  return *files;
}

bool RunSplit(std::string_view input) {
  return SplitModel().Read(input, [](const std::string& dir) {
    const auto checkpoint = Checkpoint::Open(absl::StrCat(dir, "/", kParts[0]));
    if (checkpoint.ok()) Use(**checkpoint);
    return checkpoint.ok();
  });
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
const Registration split_registration({.name = "gguf_split",
                                       .seeds = [] { return SplitModel().Seeds(); },
                                       .run = RunSplit,
                                       .mutate =
                                           [](std::string_view input, std::mt19937_64& random) {
                                             return SplitModel().Mutate(input, random);
                                           },
                                       .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::gguf
