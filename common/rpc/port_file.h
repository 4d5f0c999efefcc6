// Tells others where a service listens when it took free ports: `--port-file FILE` gets
// {"listen": "127.0.0.1:43210", "metrics": "127.0.0.1:43211", "pid": 17} once all are bound.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pregate {

// A regular file is its server's as long as that lives and this object does: it holds a lock, which
// ends with the process. Not thread-safe.
class PortFile {
 public:
  // UNAVAILABLE where a living server holds the file. Nothing is written. With an empty `path`
  // neither this nor Write does anything.
  static absl::StatusOr<PortFile> Claim(const std::string& path);
  PortFile() : PortFile("", -1) {}
  PortFile(PortFile&& other) noexcept;
  PortFile& operator=(PortFile&& other) noexcept;
  ~PortFile();

  // As WriteOutput does: a reader sees all or nothing.
  absl::Status Write(const std::map<std::string, std::string>& addresses);

 private:
  PortFile(std::string path, int fd);

  std::string path_;
  int fd_;  // locked; -1: there is no regular file yet
};

}  // namespace pregate
