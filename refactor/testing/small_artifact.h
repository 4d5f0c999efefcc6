// A small artifact for tests, of the dense model of SmallConfig
// (common/model/formats/testing/model_files.h).
#pragma once

#include "refactor/artifact.h"

namespace pregate {

ModelSpec SmallDenseSpec();

// Three experts, two layers (the second shares nothing and scales nothing), a router of width 6.
// With `columns`, its embedding is cut from the model's.
Artifact SmallArtifact(bool columns);

// The tensors of artifact->router, without an embedding where embed_columns has it. `spec`: the
// model's, with the widths of the experts.
void AddRandomRouter(ModelSpec spec, Artifact* artifact);

// A norm exact; q_proj of layer 1, gate_proj and down_proj of layer 0 in 8, 3 and 1 bits.
WeightDeltas SmallDeltas();

}  // namespace pregate
