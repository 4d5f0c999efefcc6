// What a reader of one layout makes of its files; Checkpoint::Open checks it against the spec.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/json.h"
#include "common/model/formats/digest.h"
#include "common/model/formats/safetensors_set.h"
#include "common/model/formats/stored_tensor.h"
#include "common/model/spec/spec.h"
#include "common/model/spec/tensor_names.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

using TensorViews = std::map<std::string, TensorView, std::less<>>;  // by canonical name

struct CheckpointParts {
  std::string layout;  // Checkpoint::layout
  ModelSpec spec;
  TensorViews views;
  std::vector<std::shared_ptr<const void>> files;  // keep the views' bytes mapped
  std::string digest;  // from a manifest; empty where the contents must be hashed
  std::map<std::string, TensorHash> recorded;  // by the manifest, by canonical name; or empty
  std::function<absl::StatusOr<std::unique_ptr<Tokenizer>>()> load_tokenizer;
};

// InvalidArgument, naming both, where `shape` is not the wanted one. A reader that permutes or cuts
// rows compares what is stored before it does.
absl::Status CheckShape(const StoredTensor& stored, absl::Span<const int64_t> shape,
                        const std::string& wanted_name, absl::Span<const int64_t> wanted);

// A directory whose backbone is Hugging Face's but for its FFNs. Immutable.
struct ForeignLayout {
  const char* name;
  bool (*is)(const JsonObject& config);
  // Completes parts->spec (the dense part is there) and parts->views (all but the FFNs are there).
  absl::Status (*map)(const JsonObject& config, const SafetensorsSet& files,
                      CheckpointParts* parts);
};

// The readers. `path` is a directory with a config.json, or a GGUF file.
absl::StatusOr<CheckpointParts> ReadDirectory(const std::string& path,
                                              const ForeignLayout* foreign);
absl::StatusOr<CheckpointParts> ReadGguf(const std::string& path);

}  // namespace pregate
