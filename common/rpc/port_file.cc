#include "common/rpc/port_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

// A descriptor that holds the lock; -1 where `path` is no regular file, or is not there.
absl::StatusOr<int> Lock(const std::string& path) {
  struct stat info = {};
  if (path.empty() || stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return -1;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  close(fd);
  return absl::UnavailableError(
      absl::StrCat("--port-file: ", path, " is that of another server, which lives"));
}

}  // namespace

PortFile::PortFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

PortFile::PortFile(PortFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

PortFile& PortFile::operator=(PortFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

PortFile::~PortFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<PortFile> PortFile::Claim(const std::string& path) {
  ASSIGN_OR_RETURN(const int fd, Lock(path));
  return PortFile(path, fd);
}

absl::Status PortFile::Write(const std::map<std::string, std::string>& addresses) {
  if (path_.empty()) return absl::OkStatus();
  nlohmann::json json(addresses);
  json["pid"] = getpid();
  const absl::Status written = WriteOutput(path_, json.dump() + "\n");
  if (!written.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--port-file: ", written.message()));
  }
  // The file is another than the one that was claimed, which goes with the swapped object.
  ASSIGN_OR_RETURN(const int fd, Lock(path_));
  *this = PortFile(path_, fd);
  return absl::OkStatus();
}

}  // namespace pregate
