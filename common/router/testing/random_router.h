// A checkpoint in memory that holds nothing but a router with random weights: any shape, no file.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/model/formats/checkpoint.h"

namespace pregate {

// Tests may read and change `tensors` before handing it on.
class InMemoryCheckpoint final : public Checkpoint {
 public:
  explicit InMemoryCheckpoint(ModelSpec spec);

  std::vector<TensorInfo> Tensors() const override;
  bool Has(const std::string& name) const override;
  absl::Status Read(const std::string& name, absl::Span<float> out) const override;
  absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer() const override;

  std::map<std::string, std::vector<float>> tensors;
};

// vocab_size, max_position, num_experts and router filled in; the rest is empty.
ModelSpec RouterOnlySpec(int vocab_size, int num_experts, const RouterSpec& router);

// Weights wide enough that routes vary from token to token and attention matters. The same seed
// gives the same weights.
std::unique_ptr<InMemoryCheckpoint> MakeRandomRouter(const ModelSpec& spec, uint32_t seed);

}  // namespace pregate
