// Checkpoints with random weights and the real layout, for tests and benchmarks that need a shape
// only.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/formats/checkpoint_writer.h"

namespace pregate {

struct SynthOptions {
  std::string shape;  // "tiny", "smollm2-135m" or "llama2-7b"
  int layers = 0;     // 0: as many as the shape has
  int experts = 0;    // 0: a dense model
  // Fractions of the FFN's width, each neuron being a new one; of no effect on a dense model.
  double shared = 0.25;
  double own = 0.25;
  uint64_t seed = 0;
  std::string out;
  DType dtype = DType::kF32;
  std::function<void(const WriteProgress&)> progress;
};

// The spec that SynthCheckpoint writes. InvalidArgument for an unknown shape or fractions outside
// [0, 1].
absl::StatusOr<ModelSpec> SynthSpec(const SynthOptions& options);

// Same options, same bytes. Weights are uniform, scaled so that activations keep their magnitude
// from layer to layer, logits are spread and the router uses all experts. The tokenizer is a real one
// (synth_tokenizer.h). Returns the digest.
absl::StatusOr<std::string> SynthCheckpoint(const SynthOptions& options);

}  // namespace pregate
