// The GGUF file format, versions 2 and 3, little endian: metadata, tensor table, tensor data.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mapped_file.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate {

// An open file. Immutable, thread-safe; tensors and strings borrow its bytes.
class GgufFile {
 public:
  // Checks every length, count, type and offset; InvalidArgument names file, key or tensor, and
  // byte offset. Unimplemented for element types that are not read.
  static absl::StatusOr<std::shared_ptr<const GgufFile>> Open(const std::string& path);
  // The file, or where it is the first part of a split model the whole of it: metadata of the first
  // part, tensors of all. Missing parts are named, and where another part is given the first one.
  static absl::StatusOr<std::shared_ptr<const GgufFile>> OpenModel(const std::string& path);

  const std::string& path() const { return file_->path(); }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }

  // Metadata. Absent keys yield the fallback, or an error without one; a value of another kind is
  // an error.
  bool Has(const std::string& key) const { return metadata_.contains(key); }
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min, int64_t max,
                              std::optional<int64_t> fallback = std::nullopt) const;
  // The integer, or the one value of all entries where the file holds an array of them: converters
  // write what may differ from layer to layer either way. Unimplemented where entries differ.
  absl::StatusOr<int64_t> UniformInt(const std::string& key, int64_t min, int64_t max,
                                     std::optional<int64_t> fallback = std::nullopt) const;
  // A token id below `vocab_size`; nothing where the key is absent or holds the format's "none"
  // (-1, in 32 bits too).
  absl::StatusOr<std::optional<int64_t>> SpecialId(const std::string& key,
                                                   int64_t vocab_size) const;
  // Integers are numbers too.
  absl::StatusOr<double> Float(const std::string& key,
                               std::optional<double> fallback = std::nullopt) const;
  absl::StatusOr<bool> Bool(const std::string& key,
                            std::optional<bool> fallback = std::nullopt) const;
  absl::StatusOr<std::string> String(const std::string& key,
                                     std::optional<std::string> fallback = std::nullopt) const;
  absl::StatusOr<std::vector<std::string_view>> Strings(const std::string& key) const;  // an array
  absl::StatusOr<std::vector<int64_t>> Ints(const std::string& key) const;              // an array
  absl::StatusOr<std::vector<float>> Floats(const std::string& key) const;  // an array of F32
  // Unimplemented: names the file, the key and what it holds.
  absl::Status Unsupported(const std::string& key) const;
  std::vector<std::string> Keys() const;
  // "7", "0.5", "true", "\"yarn\"" or "an array of 32", for messages and comparisons; empty when
  // absent.
  std::string Text(const std::string& key) const;

 private:
  friend class GgufParser;

  struct Value {
    uint32_t type = 0;
    uint32_t element_type = 0;  // of an array
    uint64_t count = 0;         // of an array
    std::string_view raw;       // the value, or the array's elements
    uint64_t offset = 0;        // of raw in the file
  };

  explicit GgufFile(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}
  absl::Status Bad(const std::string& key, const char* expected) const;
  const Value* Find(const std::string& key) const;
  // InvalidArgument, naming file and key, where a part of a model says other than its first one.
  absl::Status CheckSameMetadata(const GgufFile& first) const;
  absl::Status AddPart(const GgufFile& part, int64_t tensors_max);

  std::shared_ptr<const MappedFile> file_;
  std::vector<std::shared_ptr<const MappedFile>> parts_;  // of a split model, but the first
  std::map<std::string, Value, std::less<>> metadata_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace pregate
