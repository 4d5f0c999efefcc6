#include "common/tls/grpc/credential_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

absl::StatusOr<int> MakeMemfd(const std::string& bytes, int64_t version) {
  const int fd = memfd_create("pregate-credential", MFD_CLOEXEC);
  const timespec times[] = {{.tv_sec = version}, {.tv_sec = version}};
  if (fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) &&
      futimens(fd, times) == 0) {
    return fd;
  }
  const int error = errno;
  if (fd >= 0) close(fd);
  return absl::InternalError(absl::StrCat("a file in memory: ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<MemoryFile> MemoryFile::Make(const std::string& bytes) {
  ASSIGN_OR_RETURN(const int fd, MakeMemfd(bytes, 1));
  return MemoryFile(fd);
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), version_(other.version_) {}
MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(version_, other.version_);
  return *this;
}
MemoryFile::~MemoryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string MemoryFile::path() const { return absl::StrCat("/proc/self/fd/", fd_); }

absl::StatusOr<MemoryFile> MemoryFile::MakeNext(const std::string& bytes) const {
  ASSIGN_OR_RETURN(const int fd, MakeMemfd(bytes, version_ + 1));
  MemoryFile next(fd);
  next.version_ = version_ + 1;
  return next;
}

absl::Status MemoryFile::ReplaceWith(const MemoryFile& next) {
  if (dup3(next.fd_, fd_, O_CLOEXEC) != fd_) {
    return absl::InternalError(absl::StrCat("a file in memory: ", std::strerror(errno)));
  }
  version_ = next.version_;
  return absl::OkStatus();
}

absl::StatusOr<CredentialFiles> CredentialFiles::Make(const TlsPem& pem) {
  ASSIGN_OR_RETURN(MemoryFile identity,
                   MemoryFile::Make(absl::StrCat(pem.key, "\n", pem.certificate)));
  ASSIGN_OR_RETURN(MemoryFile authority, MemoryFile::Make(pem.authority));
  return CredentialFiles(std::move(identity), std::move(authority));
}

// What may fail for want of descriptors or memory comes first, so that nothing is half replaced.
absl::Status CredentialFiles::Replace(const TlsPem& pem) {
  ASSIGN_OR_RETURN(const MemoryFile identity,
                   identity_.MakeNext(absl::StrCat(pem.key, "\n", pem.certificate)));
  ASSIGN_OR_RETURN(const MemoryFile authority, authority_.MakeNext(pem.authority));
  RETURN_IF_ERROR(identity_.ReplaceWith(identity));
  return authority_.ReplaceWith(authority);
}

}  // namespace pregate
