#include "refactor/activation_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/base/status.h"

namespace pregate {
namespace {

absl::Status FileError(const char* what) {
  return absl::UnavailableError(
      absl::StrCat("temporary activation file: ", what, ": ", std::strerror(errno)));
}

}  // namespace

ActivationLog::ActivationLog(int fd, int num_layers, int64_t num_tokens, int width)
    : fd_(fd), num_layers_(num_layers), num_tokens_(num_tokens), width_(width) {
  energies_.resize(static_cast<size_t>(num_layers) * num_tokens);
}

ActivationLog::~ActivationLog() { close(fd_); }

absl::StatusOr<std::unique_ptr<ActivationLog>> ActivationLog::Create(const std::string& dir,
                                                                     int num_layers,
                                                                     int64_t num_tokens,
                                                                     int width) {
  std::string path = dir + "/.activations-XXXXXX";
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return FileError(absl::StrCat("cannot create ", path).c_str());
  unlink(path.c_str());
  auto log = std::unique_ptr<ActivationLog>(new ActivationLog(fd, num_layers, num_tokens, width));
  // Says now, not after minutes, that the disk is too small.
  const int64_t bytes = int64_t{num_layers} * num_tokens * width;
  if (const int error = posix_fallocate(fd, 0, bytes); error != 0) {
    errno = error;
    return FileError(absl::StrCat("cannot reserve ", bytes, " bytes in ", dir).c_str());
  }
  return log;
}

absl::Status ActivationLog::Write(int layer, int64_t first_token, absl::Span<const uint8_t> codes,
                                  absl::Span<const float> energies) {
  const auto num = static_cast<int64_t>(energies.size());
  PREGATE_CHECK(layer >= 0 && layer < num_layers_ && first_token >= 0 &&
                first_token + num <= num_tokens_);
  PREGATE_CHECK(static_cast<int64_t>(codes.size()) == num * width_);
  std::copy(energies.begin(), energies.end(),
            energies_.begin() + int64_t{layer} * num_tokens_ + first_token);
  off_t at = (int64_t{layer} * num_tokens_ + first_token) * width_;
  while (!codes.empty()) {
    const ssize_t n = pwrite(fd_, codes.data(), codes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return FileError("write");
    codes.remove_prefix(n);
    at += n;
  }
  return absl::OkStatus();
}

absl::Status ActivationLog::ReadLayer(int layer, absl::Span<uint8_t> codes) const {
  PREGATE_CHECK(layer >= 0 && layer < num_layers_);
  PREGATE_CHECK(static_cast<int64_t>(codes.size()) == num_tokens_ * width_);
  off_t at = int64_t{layer} * num_tokens_ * width_;
  while (!codes.empty()) {
    const ssize_t n = pread(fd_, codes.data(), codes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return FileError("read");
    codes.remove_prefix(n);
    at += n;
  }
  return absl::OkStatus();
}

absl::Span<const float> ActivationLog::Energies(int layer) const {
  return absl::MakeConstSpan(energies_).subspan(static_cast<size_t>(layer) * num_tokens_,
                                                num_tokens_);
}

}  // namespace pregate
