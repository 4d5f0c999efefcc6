// The generations that one request asks for (n, best_of). Each is a request of its own to the engine;
// their answers become one.
//
//   one              its messages, as they are
//   n of them        one start, tokens with their choice's index, an end for each, an end for all
//   n of best_of     one start; when all have ended, those that are likeliest on average, best first
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/step/peer.h"
#include "scheduler_service/core/request.h"

namespace pregate {

// The seed of choice `index` of a request with this seed (docs/API.md).
constexpr uint64_t SeedOfChoice(uint64_t seed, int32_t index) {
  return seed + static_cast<uint64_t>(index) * 0x9E3779B97F4A7C15u;
}

// Thread-safe. Made by make_shared: what is under way at the engine keeps it alive.
class Generations : public std::enable_shared_from_this<Generations> {
 public:
  using Send = std::function<void(const ToClient&)>;
  // `engine` outlives it. `send` gets one message at a time, on the engine's thread; it may Detach.
  Generations(Peer<GenerateRequest, ToClient>* engine, Send send)
      : engine_(*engine), send_(std::move(send)) {}

  // Once. False: the engine's inbox is full, or it has stopped; nothing more is said then.
  // REQUIRES: a seed where there are several.
  bool Submit(GenerateRequest request);
  // What is under way ends. May be called again.
  void Detach();

 private:
  struct Choice {
    std::optional<DoneInfo> done;
    // Of best_of.
    TokensOut held;
    double sum_logprobs = 0;

    double mean_logprob() const { return sum_logprobs / static_cast<double>(held.tokens.size()); }
  };

  bool SubmitOne(int32_t index, GenerateRequest request);
  void Take(int32_t index, const ToClient& message);
  void TakeOne(int32_t index, const StartInfo& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeOne(int32_t index, const PromptOut& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeOne(int32_t index, const TokensOut& out) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeOne(int32_t index, const ChoiceDone& done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  void TakeOne(int32_t index, const DoneInfo& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendEnd(int32_t index, const Choice& choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first of these choices gives the reason; usage is of all.
  void EndAll(const Choice& first) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendBest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Peer<GenerateRequest, ToClient>& engine_;
  // Fixed by Submit before there is an answer.
  int32_t n_ = 1;
  uint64_t seed_ = 0;            // of choice 0, where there are several
  bool holds_ = false;           // until the best are known
  bool drops_logprobs_ = false;  // asked for to find the best, and for nothing else

  absl::Mutex links_mutex_;
  std::vector<LinkId> links_ ABSL_GUARDED_BY(links_mutex_);
  absl::Mutex mutex_;
  Send send_ ABSL_GUARDED_BY(mutex_);  // let go at the end: it holds who holds this
  std::vector<Choice> choices_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  size_t num_done_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pregate
