// A small artifact for tests, of the dense model of SmallConfig
// (common/model/testing/model_files.h).
#pragma once

#include "refactor/artifact.h"

namespace pregate {

ModelSpec SmallDenseSpec();

// Three experts, two layers (the second shares nothing and scales nothing), a router of width 6.
// With `columns`, its embedding is cut from the model's.
Artifact SmallArtifact(bool columns);

}  // namespace pregate
