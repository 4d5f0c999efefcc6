#include "common/base/files.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/process.h"
#include "common/base/remove_on_signal.h"
#include "common/base/status.h"

namespace pregate {

namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr int kLinksMax = 40;          // one behind the other, as the kernel has it
constexpr mode_t kPermissions = 0666;  // less what the umask takes

absl::Status Failed(const std::string& path, const char* what) {
  return absl::ErrnoToStatus(errno, absl::StrCat(path, ": ", what));
}

// The number of an open descriptor that `path` names. Opening such a path anew would begin at the
// start of a file that others have written to, and fails for a socket.
std::optional<int> DescriptorOf(absl::string_view path) {
  if (path == "/dev/stdin") return STDIN_FILENO;
  if (path == "/dev/stdout") return STDOUT_FILENO;
  if (path == "/dev/stderr") return STDERR_FILENO;
  if (!absl::ConsumePrefix(&path, "/dev/fd/") && !absl::ConsumePrefix(&path, "/proc/self/fd/")) {
    return std::nullopt;
  }
  int fd = -1;
  return absl::SimpleAtoi(path, &fd) && fd >= 0 ? std::optional<int>(fd) : std::nullopt;
}

int OpenOrDuplicate(const std::string& path, int flags) {
  const std::optional<int> fd = DescriptorOf(path);
  return fd ? fcntl(*fd, F_DUPFD_CLOEXEC, 0) : open(path.c_str(), flags | O_CLOEXEC);
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

// The file that a link leads to, which need not be there yet, so that the link stays.
std::string Resolved(std::string path) {
  char buffer[PATH_MAX];
  for (int links = 0; links < kLinksMax; ++links) {
    if (realpath(path.c_str(), buffer) != nullptr) return buffer;
    const ssize_t size = readlink(path.c_str(), buffer, sizeof buffer);
    if (size <= 0) break;
    const std::string next(buffer, size);
    path = next.front() == '/' ? next : absl::StrCat(ParentOf(path), "/", next);
  }
  return path;
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& path, uint64_t bytes_max) {
  const int fd = OpenOrDuplicate(path, O_RDONLY);
  if (fd < 0) return Failed(path, "cannot open");
  std::string bytes;
  ssize_t count = 0;
  do {
    const size_t before = bytes.size();
    bytes.resize(before + kReadBytes);
    do {
      count = read(fd, bytes.data() + before, kReadBytes);
    } while (count < 0 && errno == EINTR);
    bytes.resize(before + std::max<ssize_t>(count, 0));
  } while (count > 0 && bytes.size() <= bytes_max);
  const absl::Status failed = count < 0 ? Failed(path, "cannot read") : absl::OkStatus();
  close(fd);
  RETURN_IF_ERROR(failed);
  if (bytes.size() <= bytes_max) return bytes;
  return absl::OutOfRangeError(absl::StrCat(path, ": more than ", bytes_max, " bytes"));
}

OutputFile::OutputFile(std::string path, std::string target, std::string temporary, int fd)
    : path_(std::move(path)),
      target_(std::move(target)),
      temporary_(std::move(temporary)),
      fd_(fd) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, "")),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (temporary_.empty()) return;
  unlink(temporary_.c_str());
  KeepOnSignal(temporary_);
}

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  struct stat before = {};
  const bool exists = stat(path.c_str(), &before) == 0;
  const int why_not = exists ? 0 : errno;
  if (DescriptorOf(path) || (exists && !S_ISREG(before.st_mode))) {
    const int fd = OpenOrDuplicate(path, O_WRONLY);
    if (fd < 0) return Failed(path, "cannot open for writing");
    return OutputFile(path, "", "", fd);
  }
  if (why_not != 0 && why_not != ENOENT) {
    return absl::ErrnoToStatus(why_not, absl::StrCat(path, ": cannot write"));
  }
  const std::string target = Resolved(path);
  const std::string temporary =
      absl::StrCat(ParentOf(target), "/.pregate-", absl::Hex(RandomId(), absl::kZeroPad16));
  RemoveOnSignal(temporary);
  OutputFile file(path, target, temporary,
                  open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kPermissions));
  if (file.fd_ < 0 || (exists && fchmod(file.fd_, before.st_mode & 07777) != 0)) {
    return Failed(path, "cannot write");
  }
  return file;
}

absl::Status OutputFile::Append(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Failed(path_, "cannot write");
    bytes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (close(std::exchange(fd_, -1)) != 0) return Failed(path_, "cannot write");
  if (target_.empty()) return absl::OkStatus();
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) return Failed(path_, "cannot replace");
  KeepOnSignal(std::exchange(temporary_, ""));
  return absl::OkStatus();
}

absl::Status WriteOutput(const std::string& path, absl::string_view bytes) {
  ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path));
  RETURN_IF_ERROR(file.Append(bytes));
  return file.Commit();
}

}  // namespace pregate
