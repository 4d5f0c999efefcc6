// Brings a foreign checkpoint into our own format.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/formats/checkpoint_writer.h"

namespace pregate {

struct ImportOptions {
  std::string from;  // "authors", "hf" or "gguf": what `in` must turn out to be
  std::string in;
  std::string out;
  std::optional<DType> dtype;  // default: NativeDType of the source
  std::function<void(const WriteProgress&)> progress;
};

// Returns the digest of the checkpoint written. InvalidArgument when `in` is of another layout than
// `from`.
absl::StatusOr<std::string> ImportCheckpoint(const ImportOptions& options);

}  // namespace pregate
