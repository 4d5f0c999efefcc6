#include "expert_service/core/lease.h"

#include "absl/strings/str_cat.h"

namespace pregate {

absl::Status Lease::Take(const Claim& claim, absl::Time now) {
  if (claim.epoch == 0 || (claim.epoch > held_.epoch && claim.epoch - held_.epoch > ahead_max_)) {
    return absl::OutOfRangeError(absl::StrCat("epoch ", claim.epoch, " is not 1 to ", ahead_max_,
                                              " above ", held_.epoch, ", the last one"));
  }
  if (claim.scheduler_id == held_.scheduler_id) {
    if (claim.epoch <= held_.epoch) {
      return absl::FailedPreconditionError(absl::StrCat("epoch ", claim.epoch, " is not above ",
                                                        held_.epoch, ", which scheduler '",
                                                        held_.scheduler_id, "' formed"));
    }
  } else if (held_.link != 0 && now - heard_ < term_) {
    return absl::PermissionDeniedError(absl::StrCat("scheduler '", held_.scheduler_id,
                                                    "' holds this worker and was heard ",
                                                    absl::FormatDuration(now - heard_), " ago"));
  }
  held_ = claim;
  heard_ = now;
  return absl::OkStatus();
}

bool Lease::Release(LinkId link) {
  if (link == 0 || link != held_.link) return false;
  held_.link = 0;
  return true;
}

}  // namespace pregate
