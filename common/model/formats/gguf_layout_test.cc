#include <cmath>
#include <cstring>
#include <random>

#include "common/model/formats/checkpoint.h"
#include "common/model/formats/gguf_tokenizer.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Half-split rows (head, half, i) to interleaved ones (head, i, half), as converters do.
std::string Interleave(const OutputTensor& tensor, int head_dim) {
  const int64_t rows = tensor.entry.shape[0];
  const size_t row_bytes = tensor.bytes.size() / rows;
  std::string out(tensor.bytes.size(), '\0');
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t head = r / head_dim, half = r % head_dim / (head_dim / 2), i = r % (head_dim / 2);
    std::memcpy(&out[(head * head_dim + 2 * i + half) * row_bytes], &tensor.bytes[r * row_bytes],
                row_bytes);
  }
  return out;
}

class GgufLayoutTest : public ::testing::Test {
 protected:
  static GgufBuilder Metadata(const std::string& architecture = "llama") {
    GgufBuilder builder;
    builder.Str("general.architecture", architecture)
        .U32("llama.block_count", 2)
        .U32("llama.context_length", 64)
        .U32("llama.embedding_length", 16)
        .U32("llama.feed_forward_length", 10)
        .U32("llama.attention.head_count", 4)
        .U32("llama.attention.head_count_kv", 2)
        .F32("llama.rope.freq_base", 10000)
        .U32("llama.rope.dimension_count", 4)
        .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
        .U32("tokenizer.ggml.bos_token_id", 1)
        .U32("tokenizer.ggml.eos_token_id", 2);
    return builder;
  }

  void Add(GgufBuilder* builder, const std::string& theirs, const std::string& ours) {
    const OutputTensor& tensor = tensors_.at(ours);
    const std::vector<int64_t>& shape = tensor.entry.shape;
    std::vector<uint64_t> axes(shape.rbegin(), shape.rend());
    const bool permuted = shape.size() == 2 && shape[0] > 0 && shape[0] % 4 == 0 &&
                          (theirs.find("attn_q.") != std::string::npos ||
                           theirs.find("attn_k.") != std::string::npos);
    builder->Tensor(theirs, 0, axes, permuted ? Interleave(tensor, 4) : tensor.bytes);
  }

  void AddOutside(GgufBuilder* builder, bool tied) {
    Add(builder, "token_embd.weight", "model.embed_tokens.weight");
    Add(builder, "output_norm.weight", "model.norm.weight");
    if (!tied) Add(builder, "output.weight", "lm_head.weight");
  }

  void AddLayer(GgufBuilder* builder, int l) {
    const std::pair<const char*, const char*> names[] = {
        {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
        {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
        {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"}};
    for (const auto& [theirs, ours] : names) {
      Add(builder, absl::StrCat("blk.", l, ".", theirs, ".weight"),
          absl::StrCat("model.layers.", l, ".", ours, ".weight"));
    }
  }

  void AddTensors(GgufBuilder* builder, bool tied) {
    AddOutside(builder, tied);
    for (int l = 0; l < 2; ++l) AddLayer(builder, l);
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const GgufBuilder& builder) {
    WriteFile(path_, builder.Build());
    return Checkpoint::Open(path_);
  }

  TempDir dir_;
  std::string path_ = dir_.path("model.gguf");
  FloatTensors tensors_ = RandomSmallTensors(3);
};

TEST_F(GgufLayoutTest, ReadsTheSameModelAsHuggingFacesLayout) {
  GgufBuilder builder = Metadata();
  AddTensors(&builder, /*tied=*/false);
  const auto gguf = Open(builder);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ((*gguf)->layout(), "gguf");
  for (const auto& [name, tensor] : tensors_)
    EXPECT_EQ(ReadTensor(**gguf, name), Values(tensor)) << name;
  EXPECT_EQ((*gguf)->spec().vocab_size, 24);
  EXPECT_EQ((*gguf)->spec().bos_token, 1);
  EXPECT_THAT((*gguf)->spec().eos_tokens, ElementsAre(2));
  EXPECT_EQ((*gguf)->LoadTokenizer().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GgufLayoutTest, ASplitModelIsTheWholeOne) {
  GgufBuilder builder = Metadata();
  AddTensors(&builder, /*tied=*/false);
  const auto whole = Open(builder);
  ASSERT_TRUE(whole.ok()) << whole.status();
  GgufBuilder parts[] = {Metadata(), GgufBuilder(), GgufBuilder()};
  AddOutside(&parts[0], /*tied=*/false);
  AddLayer(&parts[1], 0);
  AddLayer(&parts[2], 1);
  for (int i = 0; i < 3; ++i) {
    parts[i].U32("split.no", i).U32("split.count", 3).U32("split.tensors.count", 3 + 2 * 9);
    WriteFile(dir_.path(absl::StrCat("m-0000", i + 1, "-of-00003.gguf")), parts[i].Build());
  }
  const auto split = Checkpoint::Open(dir_.path("m-00001-of-00003.gguf"));
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ((*split)->digest(), (*whole)->digest());
  for (const auto& [name, tensor] : tensors_)
    EXPECT_EQ(ReadTensor(**split, name), Values(tensor)) << name;
  WriteFile(dir_.path("m-00003-of-00003.gguf"), "GGUF");
  EXPECT_THAT(Checkpoint::Open(dir_.path("m-00001-of-00003.gguf")).status().message(),
              AllOf(HasSubstr("m-00003-of-00003.gguf"), HasSubstr("truncated")));
}

TEST_F(GgufLayoutTest, TakesAnAbsentOutputAsTied) {
  GgufBuilder builder = Metadata();
  AddTensors(&builder, /*tied=*/true);
  const auto gguf = Open(builder);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_TRUE((*gguf)->spec().tie_embeddings);
  EXPECT_FALSE((*gguf)->Has("lm_head.weight"));
}

TEST_F(GgufLayoutTest, ReadsRopeFactors) {
  const float factors[] = {1, 8};
  GgufBuilder builder = Metadata();
  AddTensors(&builder, false);
  builder.Tensor("rope_freqs.weight", 0, {2},
                 std::string_view(reinterpret_cast<const char*>(factors), sizeof factors));
  const auto gguf = Open(builder);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_THAT((*gguf)->spec().rope_scaling->factors, ElementsAre(1, 8));
}

TEST_F(GgufLayoutTest, ReadsScalingsAndMistralsWindow) {
  GgufBuilder builder = Metadata()
                            .Str("llama.rope.scaling.type", "yarn")
                            .F32("llama.rope.scaling.factor", 4)
                            .U32("llama.rope.scaling.original_context_length", 16)
                            .U32("llama.attention.sliding_window", 8);
  AddTensors(&builder, false);
  const auto gguf = Open(builder);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const ModelSpec& spec = (*gguf)->spec();
  EXPECT_EQ(spec.rope_scaling->kind, RopeScalingKind::kYarn);
  EXPECT_EQ(spec.rope_scaling->original_max_position, 16);
  EXPECT_FLOAT_EQ(spec.rope_scaling->attention_factor, 0.1f * std::log(4.0f) + 1);
  EXPECT_EQ(spec.architecture, "mistral");
  EXPECT_THAT(spec.windows, ElementsAre(8, 8));
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    GgufBuilder linear = Metadata().F32(key, 4);
    AddTensors(&linear, false);
    EXPECT_EQ(Open(linear).value()->spec().rope_scaling->kind, RopeScalingKind::kLinear) << key;
  }
}

TEST_F(GgufLayoutTest, RefusesByName) {
  const auto refusal = [&](GgufBuilder builder, bool with_tensors = true) {
    if (with_tensors) AddTensors(&builder, false);
    return std::string(Open(builder).status().message());
  };
  EXPECT_THAT(refusal(Metadata("falcon")),
              HasSubstr("general.architecture = \"falcon\" is not supported"));
  EXPECT_THAT(refusal(Metadata().U32("llama.expert_count", 8)),
              HasSubstr("llama.expert_count = 8"));
  EXPECT_THAT(refusal(Metadata().Str("llama.rope.scaling.type", "cubic")), HasSubstr("cubic"));
  EXPECT_THAT(refusal(Metadata().F32("llama.rope.scaling.factor", -4)), HasSubstr("factor = -4"));
  EXPECT_THAT(refusal(Metadata().F32("llama.rope.scaling.attn_factor", 0.5)),
              HasSubstr("attn_factor = 0.5"));
  EXPECT_THAT(refusal(Metadata().U32("llama.attention.value_length", 8)),
              HasSubstr("value_length"));
  EXPECT_THAT(refusal(Metadata().F32("llama.logit_scale", 0.5)), HasSubstr("logit_scale = 0.5"));
  EXPECT_THAT(refusal(Metadata().U32("llama.new_trick", 1)),
              AllOf(HasSubstr("llama.new_trick = 1"), HasSubstr("not known")));
  EXPECT_THAT(refusal(Metadata().Str("general.type", "adapter")), HasSubstr("\"adapter\""));
  EXPECT_THAT(refusal(Metadata().U32("split.count", 2)), HasSubstr("part 1 of 2 of a split"));
  EXPECT_THAT(refusal(Metadata().U32("tokenizer.ggml.eot_token_id", 24)), HasSubstr("no token id"));
  EXPECT_THAT(refusal(Metadata().U32("llama.attention.key_length", 8)),
              HasSubstr("dimension_count = 4"));
  EXPECT_THAT(refusal(Metadata(), false), HasSubstr("token_embd.weight"));
  EXPECT_THAT(refusal(Metadata().Tensor("blk.0.attn_q.bias", 0, {16}, std::string(64, '\0'))),
              HasSubstr("missing tensor blk.0.attn_k.bias"));
  EXPECT_THAT(refusal(GgufBuilder()), HasSubstr("missing key general.architecture"));
}

TEST_F(GgufLayoutTest, RefusesTensorsOfWrongShape) {
  tensors_["model.layers.0.mlp.down_proj.weight"] = RandomTensor("x", {16, 11}, 1);
  GgufBuilder builder = Metadata();
  AddTensors(&builder, false);
  EXPECT_THAT(
      Open(builder).status().message(),
      AllOf(HasSubstr("tensor blk.0.ffn_down.weight at byte"), HasSubstr("expected [16,10]")));
}

// Compared as they are stored: rows of attn_q and attn_k are permuted later.
TEST_F(GgufLayoutTest, RefusesEveryOtherShape) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const FloatTensors good = tensors_;
  const std::pair<const char*, const char*> names[] = {
      {"model.layers.0.self_attn.q_proj.weight", "attn_q"},
      {"model.layers.1.self_attn.k_proj.weight", "attn_k"},
      {"model.layers.0.self_attn.v_proj.weight", "attn_v"},
      {"model.layers.1.mlp.down_proj.weight", "ffn_down"},
      {"model.layers.0.input_layernorm.weight", "attn_norm"},
      {"lm_head.weight", "output"}};
  for (const auto& [ours, theirs] : names) {
    for (const std::vector<int64_t>& shape : OtherShapes(good.at(ours).entry.shape, random)) {
      tensors_ = good;
      tensors_[ours] = RandomTensor(ours, shape, 1);
      GgufBuilder builder = Metadata();
      AddTensors(&builder, false);
      EXPECT_THAT(Open(builder).status().message(),
                  AllOf(HasSubstr(theirs), HasSubstr("wrong shape")))
          << ours << " of rank " << shape.size();
    }
  }
}

TEST_F(GgufLayoutTest, ReadsFormsThatConvertersLeave) {
  const auto open = [&](GgufBuilder builder) {
    AddTensors(&builder, false);
    return Open(builder);
  };
  const std::string none("\xFF\xFF\xFF\xFF", 4);
  const GgufBuilder files[] = {
      Metadata().Raw("tokenizer.ggml.eot_token_id", 4, none),
      Metadata().Raw("tokenizer.ggml.eom_token_id", 5, none),  // as a signed number
      Metadata().U32("llama.vocab_size", 24),
      Metadata().U32("split.count", 1),
      Metadata().Str("llama.rope.scaling.type", "linear").F32("llama.rope.scaling.factor", 1),
      Metadata().Str("llama.rope.scaling.type", "none").F32("llama.rope.scaling.factor", 4),
      Metadata().U32("llama.attention.sliding_window", 64),
      Metadata().U32("llama.expert_count", 0),
      Metadata().F32("llama.logit_scale", 1),
      Metadata().Str("qwen2.anything", "ignored"),
      Metadata().Tensor("blk.0.attn_rot_embd.weight", 0, {2}, std::string(8, '\0'))};
  for (const GgufBuilder& file : files) {
    const auto opened = open(file);
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_THAT((*opened)->spec().eos_tokens, ElementsAre(2));
  }
}

TEST_F(GgufLayoutTest, EndsAtEachOfTheFilesEndIds) {
  GgufBuilder builder = Metadata().U32("tokenizer.ggml.eot_token_id", 3);
  builder.U32("tokenizer.ggml.eom_token_id", 4).U32("tokenizer.ggml.fim_pad_token_id", 5);
  AddTensors(&builder, false);
  const auto gguf = Open(builder);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_THAT((*gguf)->spec().eos_tokens, ElementsAre(2, 3, 4, 5));
}

TEST_F(GgufLayoutTest, ReadsTheTokenizersParts) {
  std::string types;  // an array of three int32
  types.append("\x05\0\0\0\3\0\0\0\0\0\0\0", 12).append("\3\0\0\0\1\0\0\0\1\0\0\0", 12);
  const auto spec_of = [&](GgufBuilder builder) -> absl::StatusOr<PipelineTokenizerSpec> {
    WriteFile(path_, builder.Build());
    return GgufPipelineSpec(**GgufFile::Open(path_));
  };
  const auto base = [&] {
    return GgufBuilder()
        .Str("tokenizer.ggml.model", "gpt2")
        .Str("tokenizer.ggml.pre", "smollm")
        .Strings("tokenizer.ggml.tokens", {"<|end|>", "a", "ab"})
        .Raw("tokenizer.ggml.token_type", 9, types);
  };
  const auto spec = spec_of(
      base().Strings("tokenizer.ggml.merges", {"a b"}).U32("tokenizer.ggml.eos_token_id", 0));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_THAT(spec->tokens, ElementsAre("<|end|>", "a", "ab"));
  EXPECT_THAT(spec->merges, ElementsAre(std::pair<std::string, std::string>("a", "b")));
  EXPECT_THAT(spec->added,
              ElementsAre(AddedToken{.id = 0, .text = spec->tokens[0], .special = true}));
  EXPECT_EQ(spec->pre_tokenizer, "smollm");
  EXPECT_EQ(spec->eos, 0);
  EXPECT_THAT(spec_of(base().Strings("tokenizer.ggml.merges", {"ab"})).status().message(),
              HasSubstr("merges[0]"));
  EXPECT_THAT(
      spec_of(
          base().Strings("tokenizer.ggml.merges", {"a b"}).U32("tokenizer.ggml.eos_token_id", 3))
          .status()
          .message(),
      HasSubstr("eos_token_id"));
  EXPECT_THAT(spec_of(GgufBuilder().Str("tokenizer.ggml.model", "llama")).status().message(),
              HasSubstr("\"llama\" is not supported"));
}

}  // namespace
}  // namespace pregate
