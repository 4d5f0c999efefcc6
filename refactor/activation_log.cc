#include "refactor/activation_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/base/status.h"

namespace pregate {

ActivationLog::ActivationLog(std::string path, int fd, int num_layers, int64_t num_tokens,
                             int width)
    : path_(std::move(path)),
      fd_(fd),
      num_layers_(num_layers),
      num_tokens_(num_tokens),
      width_(width) {
  energies_.resize(static_cast<size_t>(num_layers) * num_tokens);
}

ActivationLog::~ActivationLog() { close(fd_); }

absl::Status ActivationLog::Failed(const char* what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": ", what));
}

int64_t ActivationLog::Bytes(int num_layers, int64_t num_tokens, int width) {
  return num_layers * num_tokens * (width + static_cast<int64_t>(sizeof(float)));
}

int64_t ActivationLog::EnergiesAt(int layer, int64_t token) const {
  return num_layers_ * num_tokens_ * width_ +
         (layer * num_tokens_ + token) * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<std::unique_ptr<ActivationLog>> ActivationLog::Open(const std::string& path,
                                                                   int num_layers,
                                                                   int64_t num_tokens, int width) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  auto log =
      std::unique_ptr<ActivationLog>(new ActivationLog(path, fd, num_layers, num_tokens, width));
  const int64_t bytes = Bytes(num_layers, num_tokens, width);
  struct stat before = {};
  if (fstat(fd, &before) != 0) return log->Failed("cannot look at it");
  if (before.st_size == 0) {
    // Says now, not after minutes, that the disk is too small.
    if (const int error = posix_fallocate(fd, 0, bytes); error != 0) {
      unlink(path.c_str());
      return absl::ErrnoToStatus(error, absl::StrCat(path, ": cannot reserve ", bytes, " bytes"));
    }
  } else if (before.st_size != bytes) {
    return absl::DataLossError(absl::StrCat(path, ": has ", before.st_size, " bytes, not ", bytes));
  }
  char* energies = reinterpret_cast<char*>(log->energies_.data());
  RETURN_IF_ERROR(
      log->ReadAt(log->EnergiesAt(0, 0), {energies, log->energies_.size() * sizeof(float)}));
  return log;
}

absl::Status ActivationLog::WriteAt(int64_t at, absl::Span<const char> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Failed("cannot write");
    bytes.remove_prefix(n);
    at += n;
  }
  return absl::OkStatus();
}

absl::Status ActivationLog::ReadAt(int64_t at, absl::Span<char> bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = pread(fd_, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) return absl::DataLossError(absl::StrCat(path_, ": ends early"));
    if (n < 0) return Failed("cannot read");
    bytes.remove_prefix(n);
    at += n;
  }
  return absl::OkStatus();
}

absl::Status ActivationLog::Write(int layer, int64_t first_token, absl::Span<const uint8_t> codes,
                                  absl::Span<const float> energies) {
  const auto num = static_cast<int64_t>(energies.size());
  PREGATE_CHECK(layer >= 0 && layer < num_layers_ && first_token >= 0 &&
                first_token + num <= num_tokens_);
  PREGATE_CHECK(static_cast<int64_t>(codes.size()) == num * width_);
  std::copy(energies.begin(), energies.end(),
            energies_.begin() + int64_t{layer} * num_tokens_ + first_token);
  RETURN_IF_ERROR(
      WriteAt(EnergiesAt(layer, first_token),
              {reinterpret_cast<const char*>(energies.data()), energies.size() * sizeof(float)}));
  return WriteAt((int64_t{layer} * num_tokens_ + first_token) * width_,
                 {reinterpret_cast<const char*>(codes.data()), codes.size()});
}

absl::Status ActivationLog::ReadLayer(int layer, absl::Span<uint8_t> codes) const {
  PREGATE_CHECK(layer >= 0 && layer < num_layers_);
  PREGATE_CHECK(static_cast<int64_t>(codes.size()) == num_tokens_ * width_);
  return ReadAt(int64_t{layer} * num_tokens_ * width_,
                {reinterpret_cast<char*>(codes.data()), codes.size()});
}

absl::Status ActivationLog::Sync() const {
  return fdatasync(fd_) == 0 ? absl::OkStatus() : Failed("cannot sync");
}

absl::Span<const float> ActivationLog::Energies(int layer) const {
  return absl::MakeConstSpan(energies_).subspan(static_cast<size_t>(layer) * num_tokens_,
                                                num_tokens_);
}

}  // namespace pregate
