// Whose request runs next when many wait: start-time fair queueing (Goyal, Vin and Cheng, 1996)
// over clients, in units of requests. A client that sends three hundred requests delays the first one
// of another by one request, not by three hundred. Each priority has its own.
#pragma once

#include <cstdint>

#include "absl/container/flat_hash_map.h"

namespace pregate::scheduler {

// Not thread-safe. Holds as many clients as have requests waiting, and a few of the past.
class FairTurns {
 public:
  // The turn of the client's next request: the one after its last, and not before what runs
  // now. Who waits is served by ascending turn.
  int64_t Next(uint64_t client);
  // A request with this turn runs.
  void Entered(int64_t turn);

 private:
  void ForgetThePast();

  int64_t now_ = 0;                              // the latest turn that ran
  absl::flat_hash_map<uint64_t, int64_t> next_;  // by client
  static constexpr size_t kForgetMin = 64;
  size_t forget_at_ = kForgetMin;  // clients
};

}  // namespace pregate::scheduler
