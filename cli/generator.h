// One generation, wherever it runs: in this process or on a cluster.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/ids.h"
#include "common/step/sampling.h"
#include "common/tls/tls_material.h"

namespace pregate::cli {

struct GenerateJob {
  std::string prompt;
  bool chat = false;  // the prompt is a user's message; the model's template is applied
  std::optional<int32_t> max_tokens;
  SamplingParams sampling;
  std::optional<uint64_t> seed;
  bool ignore_eos = false;
};

struct GenerateOutcome {
  std::string text;
  std::vector<TokenId> ids;
  std::vector<ExpertId> routes;         // of ids; empty for a dense model
  std::vector<ExpertId> prompt_routes;  // likewise
  uint64_t seed = 0;
  int32_t prompt_tokens = 0;
  std::string finish_reason;
  double ttft_s = 0;        // call to first token, as the caller sees it
  double tokens_per_s = 0;  // after the first token; 1 / ttft_s when there is only one
};

// Called with text as it becomes complete.
using OnText = std::function<void(std::string_view)>;

// Not thread-safe.
class Generator {
 public:
  virtual ~Generator() = default;
  virtual absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job,
                                                   const OnText& on_text) = 0;
};

// Takes the times of one generation as its tokens arrive.
class TokenTimer {
 public:
  TokenTimer() : start_(absl::Now()) {}
  void Add(size_t num_tokens);
  // Fills ttft_s and tokens_per_s.
  void Report(GenerateOutcome* outcome) const;

 private:
  absl::Time start_, first_, last_;
  size_t num_first_ = 0, num_tokens_ = 0;
};

struct LocalOptions {
  std::string model;
  std::string dtype = "f32";
  int32_t threads = 0;       // 0: all cores
  int32_t expert_slots = 0;  // experts whose units stay on the device at once; 0: all
};
// Router, worker and scheduler in this process over in-process links.
absl::StatusOr<std::unique_ptr<Generator>> MakeLocalGenerator(const LocalOptions& options);

// A client of `address` ("HOST:PORT" or "unix:PATH"). Waits up to `wait` for the server to be
// ready. One at a time in a process.
absl::StatusOr<std::unique_ptr<Generator>> MakeRemoteGenerator(const std::string& address,
                                                               const TlsOptions& tls,
                                                               absl::Duration wait);

}  // namespace pregate::cli
