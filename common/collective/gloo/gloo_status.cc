#include "common/collective/gloo/gloo_status.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace pregate {

absl::Status GlooStatus(const std::exception& error, const char* doing) {
  const absl::string_view text = error.what();
  const bool timed_out =
      absl::StrContains(text, "Timed out waiting") || absl::StrContains(text, "timeout");
  return absl::Status(
      timed_out ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kUnavailable,
      absl::StrCat("gloo: ", doing, ": ", text));
}

}  // namespace pregate
