// Reading the small files that hold certificates and keys.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace pregate {

// The bytes of `path` without a byte-order mark before them, at most kTlsFileBytesMax. NOT_FOUND
// when it cannot be opened, INVALID_ARGUMENT when it is larger or empty; the message is the reason
// alone, the caller names the file. Thread-safe.
absl::StatusOr<std::string> ReadPemFile(const std::string& path);

}  // namespace pregate
