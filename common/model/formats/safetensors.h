// The safetensors file format: an 8-byte header length, a JSON header, the tensors' bytes.
// https://huggingface.co/docs/safetensors - read strictly (no holes, no overlap, no trailing
// bytes).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/mapped_file.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate {

// An open file. Immutable, thread-safe; tensors borrow its bytes.
class SafetensorsFile {
 public:
  // Everything is checked here: InvalidArgument names file, tensor and byte offset.
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);

  const std::string& path() const { return file_->path(); }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  absl::StatusOr<const StoredTensor*> Find(const std::string& name) const;  // NotFound
  // Whole tensors; InvalidArgument when the stored type is of the other kind.
  absl::StatusOr<std::vector<float>> ReadFloats(const std::string& name) const;
  absl::StatusOr<std::vector<int32_t>> ReadInts(const std::string& name) const;
  absl::StatusOr<std::vector<int8_t>> ReadInt8s(const std::string& name) const;

 private:
  explicit SafetensorsFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}
  absl::Status Parse();

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace pregate
