#include "cli/model/synth.h"

#include <algorithm>
#include <cmath>
#include <thread>

#include "absl/strings/match.h"
#include "cli/model/synth_tokenizer.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int kWritersMax = 16;

struct Shape {
  const char* name;
  ModelSpec backbone;
  RouterSpec router;
};

// The second and third are the published shapes of SmolLM2-135M and Llama-2-7B.
std::vector<Shape> Shapes() {
  return {
      {"tiny",
       {.vocab_size = kSynthVocabSize,
        .hidden = 64,
        .intermediate = 160,
        .num_layers = 3,
        .num_heads = 4,
        .num_kv_heads = 2,
        .head_dim = 16,
        .max_position = 2048,
        .tie_embeddings = true,
        .bos_token = 1,
        .eos_tokens = {2}},
       {.num_layers = 1, .num_heads = 4, .hidden = 32, .intermediate = 32}},
      {"smollm2-135m",
       {.vocab_size = 49152,
        .hidden = 576,
        .intermediate = 1536,
        .num_layers = 30,
        .num_heads = 9,
        .num_kv_heads = 3,
        .head_dim = 64,
        .max_position = 8192,
        .rope_theta = 100000,
        .tie_embeddings = true,
        .bos_token = 1,
        .eos_tokens = {2}},
       {.num_layers = 1, .num_heads = 4, .hidden = 64, .intermediate = 64, .rope_theta = 100000}},
      {"llama2-7b",
       {.vocab_size = 32000,
        .hidden = 4096,
        .intermediate = 11008,
        .num_layers = 32,
        .num_heads = 32,
        .num_kv_heads = 32,
        .head_dim = 128,
        .max_position = 4096,
        .bos_token = 1,
        .eos_tokens = {2}},
       {.num_layers = 1, .num_heads = 4, .hidden = 512, .intermediate = 512}}};
}

// A stream of uniform numbers in [-1, 1), one for each tensor (SplitMix64, Steele et al., OOPSLA
// 2014).
class UniformStream {
 public:
  UniformStream(uint64_t seed, const std::string& tensor) : state_(seed) {
    for (const char c : tensor) state_ = Next() ^ static_cast<uint8_t>(c);
  }
  // Two numbers of 24 bits from each draw.
  void Fill(float centre, float radius, absl::Span<float> out) {
    const float unit = radius * 0x1p-23f;
    for (size_t i = 0; i < out.size(); i += 2) {
      const uint64_t bits = Next();
      out[i] = centre + unit * static_cast<float>(static_cast<int32_t>(bits >> 40) - (1 << 23));
      if (i + 1 == out.size()) break;
      out[i + 1] =
          centre + unit * static_cast<float>(static_cast<int32_t>(bits & 0xFFFFFF) - (1 << 23));
    }
  }

 private:
  uint64_t Next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  uint64_t state_;
};

// Standard deviation of a weight matrix: 1/sqrt(inputs) keeps the magnitude; what is added to the
// residual stream shrinks with depth; heads are widened so that their softmax is not flat.
float StandardDeviation(const CanonicalTensor& tensor, const ModelSpec& spec) {
  constexpr float kLogitSpread = 3;
  const float keep = 1 / std::sqrt(static_cast<float>(tensor.shape[1]));
  if (tensor.name == "router.embed.weight") return 1;
  if (tensor.name == "router.proj_out.weight") return kLogitSpread * keep;
  if (tensor.part == TensorPart::kEmbedding || tensor.part == TensorPart::kHead)
    return kLogitSpread * keep;
  if (absl::StrContains(tensor.name, "o_proj") || absl::StrContains(tensor.name, "down_proj")) {
    return keep / std::sqrt(2.0f * static_cast<float>(spec.num_layers));
  }
  return keep;
}

void FillTensor(const CanonicalTensor& tensor, const ModelSpec& spec, uint64_t seed,
                absl::Span<float> out) {
  UniformStream stream(seed, tensor.name);
  if (tensor.shape.size() == 2) {
    // A uniform distribution's radius is sqrt(3) standard deviations.
    stream.Fill(0, std::sqrt(3.0f) * StandardDeviation(tensor, spec), out);
  } else if (absl::EndsWith(tensor.name, ".bias")) {
    stream.Fill(0, 0.1f, out);
  } else {
    stream.Fill(1, 0.25f, out);  // norms
  }
}

absl::Status CheckFraction(const char* name, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("synth: ", name, " = ", value, " is no fraction of the FFN's width in [0, 1]"));
}

void AddExperts(const SynthOptions& options, const RouterSpec& router, ModelSpec* spec) {
  const auto width = [&](double fraction) {
    return static_cast<int>(std::lround(fraction * spec->intermediate));
  };
  spec->num_experts = options.experts;
  spec->shared_width.assign(spec->num_layers, width(options.shared));
  spec->own_width.assign(spec->num_layers, width(options.own));
  spec->router = router;
}

}  // namespace

absl::StatusOr<ModelSpec> SynthSpec(const SynthOptions& options) {
  RETURN_IF_ERROR(CheckFraction("shared", options.shared));
  RETURN_IF_ERROR(CheckFraction("own", options.own));
  for (const Shape& shape : Shapes()) {
    if (options.shape != shape.name) continue;
    ModelSpec spec = shape.backbone;
    if (options.layers > 0) spec.num_layers = options.layers;
    if (options.experts != 0) AddExperts(options, shape.router, &spec);
    spec.provenance = {.source = "synth " + options.shape,
                       .method = absl::StrCat("random weights, seed ", options.seed)};
    RETURN_IF_ERROR(ValidateSpec(spec));
    return spec;
  }
  return absl::InvalidArgumentError(absl::StrCat("synth: shape \"", options.shape,
                                                 "\" is none of tiny, smollm2-135m, llama2-7b"));
}

absl::StatusOr<std::string> SynthCheckpoint(const SynthOptions& options) {
  ASSIGN_OR_RETURN(const ModelSpec spec, SynthSpec(options));
  const int threads = std::clamp<int>(std::thread::hardware_concurrency(), 1, kWritersMax);
  const WriteOptions write{.dtype = options.dtype,
                           .threads = threads,
                           .write_tokenizer =
                               [&](const std::string& dir) {
                                 return SaveTokenizerJson(SynthTokenizerSpec(spec.vocab_size), dir);
                               },
                           .progress = options.progress};
  const auto fill = [&](const CanonicalTensor& tensor, absl::Span<float> out) {
    FillTensor(tensor, spec, options.seed, out);
    return absl::OkStatus();
  };
  return WriteCheckpoint(options.out, spec, fill, write);
}

}  // namespace pregate
