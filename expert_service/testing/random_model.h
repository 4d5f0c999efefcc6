// Whole models in memory with random weights: any shape, no file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/model/formats/checkpoint.h"
#include "common/router/testing/random_router.h"

namespace pregate {

// 2 layers, grouped-query attention, odd FFN widths, vocabulary of 131, context of 128, and with
// experts a router of one layer. num_experts 0: dense.
ModelSpec TinySpec(int num_experts);

// The spec with every trait that a plain Llama has not: biases, norms of heads, a window, a layer
// without positions, heads rotated in part, multipliers, YaRN.
ModelSpec WithTraits(ModelSpec spec);

// The spec with heads and FFN widths of whole 16s: what a device that runs all layers at once takes.
ModelSpec WithEvenWidths(ModelSpec spec);

// Weights wide enough that logits, samples and routes vary. The same seed gives the same weights.
std::unique_ptr<InMemoryCheckpoint> MakeRandomModel(const ModelSpec& spec, uint32_t seed);

std::vector<TokenId> RandomTokens(int count, int vocab_size, uint32_t seed);

}  // namespace pregate
