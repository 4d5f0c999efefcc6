// Files that exist in this process's memory only, at paths that gRPC's certificate watcher reads.
// It drops what it had when it meets files that are broken; so it is shown what passed our check.
#pragma once

#include <memory>
#include <string>

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
  // Whoever opens the path sees the old bytes or the new ones.
  absl::Status Replace(const std::string& bytes);

 private:
  explicit MemoryFile(int fd) : fd_(fd) {}
  int fd_ = -1;
};

struct CredentialFiles {
  MemoryFile certificate, key, authority;

  static absl::StatusOr<CredentialFiles> Make(const TlsPem& pem);
  // A reader between two of them sees other modification times before and after, as gRPC checks.
  absl::Status Replace(const TlsPem& pem);
};

}  // namespace pregate
