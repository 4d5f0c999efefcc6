// Writes safetensors files: streaming for checkpoints, in one call for small ones.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/files.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate {

struct SafetensorsEntry {
  std::string name;
  StoredType type = StoredType::kF32;  // kF32, kF16, kBF16, kI32 or kI8
  std::vector<int64_t> shape;
};

// The header is written first, so all shapes are known before any data. Not thread-safe.
class SafetensorsWriter {
 public:
  // Writes to `path` as OutputFile does: a file appears on Finish. Entries' data follow in this
  // order.
  static absl::StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      const std::string& path, absl::Span<const SafetensorsEntry> entries,
      const std::map<std::string, std::string>& metadata);

  uint64_t data_bytes() const { return data_bytes_; }  // of all entries
  absl::Status Append(std::string_view bytes);
  // REQUIRES: exactly data_bytes() have been appended.
  absl::Status Finish();

 private:
  SafetensorsWriter(std::string path, OutputFile out, uint64_t data_bytes)
      : path_(std::move(path)), out_(std::move(out)), data_bytes_(data_bytes) {}

  std::string path_;
  OutputFile out_;
  uint64_t data_bytes_;
  uint64_t appended_ = 0;
};

// A tensor held in memory.
struct OutputTensor {
  SafetensorsEntry entry;
  std::string bytes;
};
// REQUIRES: values.size() is the product of shape.
OutputTensor FloatTensor(std::string name, std::vector<int64_t> shape,
                         absl::Span<const float> values, DType dtype = DType::kF32);
OutputTensor IntTensor(std::string name, std::vector<int64_t> shape,
                       absl::Span<const int32_t> values);
OutputTensor Int8Tensor(std::string name, std::vector<int64_t> shape,
                        absl::Span<const int8_t> values);

absl::Status WriteSafetensors(const std::string& path, absl::Span<const OutputTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {});

}  // namespace pregate
