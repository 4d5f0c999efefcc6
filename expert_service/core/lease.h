// Which scheduler may form this worker, and with which epochs.
//
//   free ──a Form──▶ held ──its stream ends──▶ free
//                     │
//                     └─ silent for the term, and another asks ─▶ held by that one
//
// Attaching takes nothing: a stream that only looks on keeps nobody out. Within a hold epochs
// ascend. A new holder begins where it likes, so no number that one scheduler chose, however high,
// shuts out the next; absurdly far ahead is refused all the same.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/ids.h"
#include "common/step/peer.h"

namespace pregate {

// Not thread-safe.
class Lease {
 public:
  struct Claim {
    LinkId link = 0;
    std::string scheduler_id;
    Epoch epoch = 0;
  };

  // `ahead_max`: how far above the last epoch the next may be.
  Lease(absl::Duration term, Epoch ahead_max) : term_(term), ahead_max_(ahead_max) {}

  // OK: the claim holds from now on. PERMISSION_DENIED: another scheduler does.
  // FAILED_PRECONDITION: the scheduler's own last epoch is not below. OUT_OF_RANGE: no epoch at
  // all.
  absl::Status Take(const Claim& claim, absl::Time now);
  void Renew(LinkId link, absl::Time now) {
    if (link == held_.link) heard_ = now;
  }
  // The link's stream has ended. True: that made the worker free.
  bool Release(LinkId link);

  // The last claim that held; its link is 0 when the worker is free.
  const Claim& held() const { return held_; }

 private:
  const absl::Duration term_;
  const Epoch ahead_max_;
  Claim held_;
  absl::Time heard_;
};

}  // namespace pregate
