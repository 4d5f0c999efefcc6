#include "cli/read_file.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/base/status.h"

namespace pregate::cli {
namespace {
constexpr uintmax_t kFileBytesMax = 1 << 30;
}  // namespace

absl::StatusOr<std::string> ReadTextFile(const std::string& option, const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file) {
    return absl::NotFoundError(absl::StrCat("--", option, ": cannot read '", path, "'"));
  }
  if (bytes > kFileBytesMax) {
    return absl::ResourceExhaustedError(absl::StrCat("--", option, ": '", path, "' has ", bytes,
                                                     " bytes, the limit is ", kFileBytesMax));
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace pregate::cli
