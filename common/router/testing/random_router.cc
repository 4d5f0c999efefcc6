#include "common/router/testing/random_router.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

InMemoryCheckpoint::InMemoryCheckpoint(ModelSpec spec) {
  spec_ = std::move(spec);
  path_ = "in-memory";
  digest_ = "in-memory";
}

std::vector<TensorInfo> InMemoryCheckpoint::Tensors() const {
  std::vector<TensorInfo> infos;
  for (const auto& [name, values] : tensors) {
    infos.push_back(
        {name, {static_cast<int64_t>(values.size())}, "F32", values.size() * sizeof(float)});
  }
  return infos;
}

bool InMemoryCheckpoint::Has(const std::string& name) const { return tensors.count(name) > 0; }

absl::Status InMemoryCheckpoint::Read(const std::string& name, absl::Span<float> out) const {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return absl::NotFoundError(absl::StrCat("tensor ", name));
  PREGATE_CHECK(it->second.size() == out.size(), "", name);
  std::copy(it->second.begin(), it->second.end(), out.begin());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> InMemoryCheckpoint::LoadTokenizer() const {
  return absl::NotFoundError("a router in memory has no tokenizer");
}

ModelSpec RouterOnlySpec(int vocab_size, int num_experts, const RouterSpec& router) {
  ModelSpec spec;
  spec.vocab_size = vocab_size;
  spec.max_position = 4096;
  spec.num_experts = num_experts;
  spec.router = router;
  return spec;
}

std::unique_ptr<InMemoryCheckpoint> MakeRandomRouter(const ModelSpec& spec, uint32_t seed) {
  auto checkpoint = std::make_unique<InMemoryCheckpoint>(spec);
  std::mt19937 random(seed);
  const auto fill = [&](const std::string& name, int size, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float>& values = checkpoint->tensors[name];
    values.resize(size);
    for (float& value : values) value = normal(random);
  };
  const auto linear = [&](const std::string& name, int outputs, int inputs) {
    fill(name + ".weight", outputs * inputs, 0, 1.5f / std::sqrt(static_cast<float>(inputs)));
    fill(name + ".bias", outputs, 0, 0.2f);
  };
  const RouterSpec& r = *spec.router;
  fill("router.embed.weight", spec.vocab_size * r.hidden, 0, 1);
  for (int l = 0; l < r.num_layers; ++l) {
    const std::string at = absl::StrCat("router.layers.", l, ".");
    fill(at + "input_layernorm.weight", r.hidden, 1, 0.1f);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"})
      linear(at + name, r.hidden, r.hidden);
    fill(at + "post_attention_layernorm.weight", r.hidden, 1, 0.1f);
    linear(at + "proj_1", r.intermediate, r.hidden);
    linear(at + "proj_2", r.hidden, r.intermediate);
  }
  fill("router.norm.weight", r.hidden, 1, 0.1f);
  linear("router.proj_out", spec.num_experts, r.hidden);
  return checkpoint;
}

}  // namespace pregate
