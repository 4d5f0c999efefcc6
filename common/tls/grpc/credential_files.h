// Files that exist in this process's memory only, at paths that gRPC's certificate watcher reads.
// It drops what it had when it meets files that are broken; so it is shown what passed our check.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/tls/tls_material.h"

namespace pregate {

// A memfd under /proc/self/fd: private to the process, never on a disk. Not thread-safe.
class MemoryFile {
 public:
  static absl::StatusOr<MemoryFile> Make(const std::string& bytes);
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&& other) noexcept;
  ~MemoryFile();

  std::string path() const;  // stays the same
  // A file for ReplaceWith, whose modification time is a later second: gRPC compares seconds before and
  // after it reads.
  absl::StatusOr<MemoryFile> MakeNext(const std::string& bytes) const;
  // Whoever opens the path sees the old bytes or those of `next`.
  absl::Status ReplaceWith(const MemoryFile& next);

 private:
  explicit MemoryFile(int fd) : fd_(fd) {}
  int fd_ = -1;
  int64_t version_ = 1;  // and modification time, in seconds
};

// Not thread-safe.
class CredentialFiles {
 public:
  static absl::StatusOr<CredentialFiles> Make(const TlsPem& pem);
  // All or nothing.
  absl::Status Replace(const TlsPem& pem);

  // One file with both, since two cannot be replaced at once; who reads PEM skips the other block.
  std::string key_path() const { return identity_.path(); }
  std::string certificate_path() const { return identity_.path(); }
  std::string authority_path() const { return authority_.path(); }

 private:
  CredentialFiles(MemoryFile identity, MemoryFile authority)
      : identity_(std::move(identity)), authority_(std::move(authority)) {}

  MemoryFile identity_, authority_;
};

}  // namespace pregate
