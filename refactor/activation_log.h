// Every token's energy shares in every layer, in one file: written once, token chunk by token chunk,
// and read back layer by layer, by a later process too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace pregate {

// Not thread-safe. The file has Bytes(...), all of them from the start; what was not written reads
// as 0. Errors name it.
class ActivationLog {
 public:
  // Makes the file, or opens it where it is there; DataLoss where that has another size.
  static absl::StatusOr<std::unique_ptr<ActivationLog>> Open(const std::string& path,
                                                             int num_layers, int64_t num_tokens,
                                                             int width);
  static int64_t Bytes(int num_layers, int64_t num_tokens, int width);
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
  // What was written is on disk when this returns.
  absl::Status Sync() const;

 private:
  ActivationLog(std::string path, int fd, int num_layers, int64_t num_tokens, int width);
  absl::Status Failed(const char* what) const;
  // Where the energies of a layer begin, behind all codes.
  int64_t EnergiesAt(int layer, int64_t token) const;
  absl::Status WriteAt(int64_t at, absl::Span<const char> bytes) const;
  absl::Status ReadAt(int64_t at, absl::Span<char> bytes) const;

  const std::string path_;
  const int fd_;
  const int num_layers_;
  const int64_t num_tokens_;
  const int width_;
  std::vector<float> energies_;  // [num_layers, num_tokens]
};

}  // namespace pregate
