// What the edge knows of the model that is served: name, shapes, tokenizer. No weights.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/spec/spec.h"
#include "common/model/tokenizer/tokenizer.h"
#include "common/model/tokenizer/tool_format.h"

namespace pregate {

// Immutable; thread-safe.
struct ServedModel {
  std::string name;  // what requests and metrics call it
  std::string digest;
  ModelSpec spec;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::optional<ToolFormat> tool_format;  // nothing: it has no tools

  bool has_routes() const { return spec.is_moe(); }
};

// Reads configuration and tokenizer of a checkpoint. `name` empty: the path's last part.
absl::StatusOr<ServedModel> LoadServedModel(const std::string& path, const std::string& name);

}  // namespace pregate
