#include "cli/read_file.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "common/base/files.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace pregate::cli {
namespace {
constexpr uint64_t kFileBytesMax = 1 << 30;
}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& option, const std::string& path) {
  absl::StatusOr<std::string> bytes = ReadInput(path, kFileBytesMax);
  if (bytes.ok()) {
    RETURN_IF_ERROR(TextOf(*bytes, absl::StrCat("--", option, ": '", path, "'")).status());
    return bytes;
  }
  return absl::Status(bytes.status().code(),
                      absl::StrCat("--", option, ": ", bytes.status().message()));
}

}  // namespace pregate::cli
