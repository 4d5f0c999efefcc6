// A whole file, mapped read-only; a pipe is read into memory first. The bytes live as long as the
// object.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace pregate {

// Immutable; thread-safe. A file that another process truncates while it is mapped faults on
// access: checkpoints are replaced by rename, never rewritten in place.
class MappedFile {
 public:
  // NotFound or InvalidArgument (neither a regular file nor a pipe, a Git LFS pointer), naming the
  // path.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, const char* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}

  std::string path_;
  const char* data_;
  size_t size_;
};

// The whole of a small file. OutOfRange when it is larger than `bytes_max`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t bytes_max);

}  // namespace pregate
