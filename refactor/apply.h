// Rebuilds a refactored checkpoint from its dense parent and an artifact. No LibTorch; seconds.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/formats/checkpoint_writer.h"
#include "refactor/artifact.h"

namespace pregate {

struct ApplyOptions {
  bool force = false;          // accept an artifact made from another dense model
  std::optional<DType> dtype;  // default: NativeDType of the dense model
  std::function<void(const WriteProgress&)> progress;
};

// FailedPrecondition when the artifact's source digest is neither the model's nor that of what it
// was imported from, unless forced. `out` as in WriteCheckpoint; the tokenizer comes along.
absl::Status ApplyArtifact(const Checkpoint& dense, const std::string& artifact_path,
                           const std::string& out, const ApplyOptions& options);

// The same for an artifact in memory.
absl::Status ApplyArtifact(const Checkpoint& dense, const Artifact& artifact,
                           const std::string& out, const ApplyOptions& options);

}  // namespace pregate
