// Every token's energy shares in every layer, in an unlinked temporary file: written once, token
// chunk by token chunk, and read back layer by layer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

// Not thread-safe. num_layers * num_tokens * width bytes of disk (page cache when memory allows).
class ActivationLog {
 public:
  // In `dir`; the file vanishes with this object, however the process ends.
  static absl::StatusOr<std::unique_ptr<ActivationLog>> Create(const std::string& dir,
                                                               int num_layers, int64_t num_tokens,
                                                               int width);
  ~ActivationLog();
  ActivationLog(const ActivationLog&) = delete;
  ActivationLog& operator=(const ActivationLog&) = delete;

  int num_layers() const { return num_layers_; }
  int64_t num_tokens() const { return num_tokens_; }
  int width() const { return width_; }

  // `codes` [energies.size(), width] of consecutive tokens (energy_code.h) and their energies.
  absl::Status Write(int layer, int64_t first_token, absl::Span<const uint8_t> codes,
                     absl::Span<const float> energies);
  // Reads layer's codes of all tokens into `codes` [num_tokens, width].
  absl::Status ReadLayer(int layer, absl::Span<uint8_t> codes) const;
  absl::Span<const float> Energies(int layer) const;

 private:
  ActivationLog(int fd, int num_layers, int64_t num_tokens, int width);

  const int fd_;
  const int num_layers_;
  const int64_t num_tokens_;
  const int width_;
  std::vector<float> energies_;  // [num_layers, num_tokens]
};

}  // namespace pregate
