#include "common/tls/pem_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/text.h"

namespace pregate {

absl::StatusOr<std::string> ReadPemFile(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(std::strerror(errno));
  std::string bytes(kTlsFileBytesMax + 1, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(in.gcount());
  if (bytes.size() > static_cast<size_t>(kTlsFileBytesMax)) {
    return absl::InvalidArgumentError(absl::StrCat("more than ", kTlsFileBytesMax, " bytes"));
  }
  if (bytes.empty()) return absl::InvalidArgumentError("is empty or no file");
  return std::string(WithoutByteOrderMark(bytes));
}

}  // namespace pregate
