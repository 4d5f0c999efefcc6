// Files that a command line names. Inputs may be pipes; what an output names is replaced in one
// step where it is a regular file and written to where it is anything else.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

// A file descriptor with one owner, who closes it.

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.Release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    Reset(other.Release());
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// All bytes of the file, pipe, socket or device at `path`, /dev/stdin included. Errors name the
// path; OUT_OF_RANGE for more than `bytes_max`, of which no more is read.
absl::StatusOr<std::string> ReadInput(const std::string& path, uint64_t bytes_max);

// One output, written from front to back. A regular file, or one that does not exist yet, appears
// complete on Commit, under the name and with the permissions of the one before; without Commit
// nothing of it stays. Pipes, devices and open descriptors (/dev/stdout) are written to directly.
// Errors name the path. Not thread-safe.
class OutputFile {
 public:
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  ~OutputFile();

  absl::Status Append(absl::string_view bytes);
  absl::Status Commit();

 private:
  OutputFile(std::string path, std::string target, std::string temporary, int fd);

  std::string path_;       // as it was given, for errors
  std::string target_;     // what Commit replaces; empty: written directly
  std::string temporary_;  // beside target_
  int fd_;
};

absl::Status WriteOutput(const std::string& path, absl::string_view bytes);

}  // namespace pregate
