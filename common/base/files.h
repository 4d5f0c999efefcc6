// Files that a command line names. Inputs may be pipes; what an output names is replaced in one
// step where it is a regular file and written to where it is anything else.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace pregate {

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
