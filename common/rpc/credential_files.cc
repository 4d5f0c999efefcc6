#include "common/rpc/credential_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

absl::StatusOr<int> MakeMemfd(const std::string& bytes) {
  const int fd = memfd_create("pregate-credential", MFD_CLOEXEC);
  if (fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) {
    return fd;
  }
  const int error = errno;
  if (fd >= 0) close(fd);
  return absl::InternalError(absl::StrCat("a file in memory: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<MemoryFile> MemoryFile::Make(const std::string& bytes) {
  ASSIGN_OR_RETURN(const int fd, MakeMemfd(bytes));
  return MemoryFile(fd);
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string MemoryFile::path() const { return absl::StrCat("/proc/self/fd/", fd_); }

absl::Status MemoryFile::Replace(const std::string& bytes) {
  ASSIGN_OR_RETURN(const int fresh, MakeMemfd(bytes));
  const bool replaced = dup3(fresh, fd_, O_CLOEXEC) == fd_;
  const int error = errno;
  close(fresh);
  if (replaced) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a file in memory: ", std::strerror(error)));
}

absl::StatusOr<CredentialFiles> CredentialFiles::Make(const TlsPem& pem) {
  ASSIGN_OR_RETURN(MemoryFile certificate, MemoryFile::Make(pem.certificate));
  ASSIGN_OR_RETURN(MemoryFile key, MemoryFile::Make(pem.key));
  ASSIGN_OR_RETURN(MemoryFile authority, MemoryFile::Make(pem.authority));
  return CredentialFiles{std::move(certificate), std::move(key), std::move(authority)};
}

absl::Status CredentialFiles::Replace(const TlsPem& pem) {
  RETURN_IF_ERROR(key.Replace(pem.key));
  RETURN_IF_ERROR(certificate.Replace(pem.certificate));
  return authority.Replace(pem.authority);
}

}  // namespace pregate
