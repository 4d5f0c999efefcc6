#include "scheduler_service/core/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

constexpr int64_t kQueueShare = 7;  // places of a client for one that is free

absl::Status CheckIds(absl::string_view field, absl::Span<const int32_t> ids, int32_t bound) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < bound) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, "[", i, "] is ", ids[i], ", must be 0..", bound - 1));
  }
  return absl::OkStatus();
}

absl::Status CheckAtMost(absl::string_view field, size_t size, int32_t bound) {
  if (size <= static_cast<size_t>(bound)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " has ", size, ", at most ", bound));
}

absl::Status CheckBetween(absl::string_view field, int32_t value, int32_t min, int32_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", must be ", min, "..", max));
}

absl::Status CheckStops(const GenerateRequest& request, const WorkerFacts& cell) {
  RETURN_IF_ERROR(CheckAtMost("stop_strings", request.stop_strings.size(), kStopStringsMax));
  for (size_t i = 0; i < request.stop_strings.size(); ++i) {
    const std::string& stop = request.stop_strings[i];
    if (stop.empty())
      return absl::InvalidArgumentError(absl::StrCat("stop_strings[", i, "] is empty"));
    RETURN_IF_ERROR(CheckAtMost(absl::StrCat("stop_strings[", i, "] in bytes"), stop.size(),
                                kStopStringBytesMax));
  }
  RETURN_IF_ERROR(CheckAtMost("stop_tokens", request.stop_tokens.size(), kStopTokensMax));
  return CheckIds("stop_tokens", request.stop_tokens, cell.vocab_size);
}

absl::Status CheckResume(const GenerateRequest& request, const WorkerFacts& cell) {
  RETURN_IF_ERROR(CheckIds("resume_tokens", request.resume_tokens, cell.vocab_size));
  if (request.resume_routes.empty()) return absl::OkStatus();
  if (cell.num_experts == 0) {
    return absl::InvalidArgumentError("resume_routes must be empty: the model is dense");
  }
  if (request.resume_routes.size() != request.resume_tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("resume_routes has ", request.resume_routes.size(), " routes, resume_tokens ",
                     request.resume_tokens.size(), " tokens"));
  }
  // A token that ended its stream was never routed: kNoRoute is allowed in the last place.
  absl::Span<const ExpertId> routes = request.resume_routes;
  if (routes.back() == kNoRoute) routes.remove_suffix(1);
  return CheckIds("resume_routes", routes, cell.num_experts);
}

// Sizes are compared as 64 bits: max_tokens comes from outside.
absl::StatusOr<int32_t> ResolveMaxTokens(const GenerateRequest& request, const WorkerFacts& cell) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t kv_tokens = int64_t{cell.kv_blocks} * kKvBlockTokens;  // of one home rank
  const int64_t room = std::min(int64_t{cell.context_tokens}, kv_tokens) - prompt;
  const int64_t max_tokens = request.max_tokens.value_or(std::max<int64_t>(room, 1));
  if (max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", max_tokens, ", must be positive"));
  }
  if (prompt + max_tokens > cell.context_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt, " tokens and max_tokens ",
                                                   max_tokens, " exceed the context of ",
                                                   cell.context_tokens, " tokens"));
  }
  if (max_tokens > room) {
    return absl::InvalidArgumentError(absl::StrCat("prompt of ", prompt, " tokens and max_tokens ",
                                                   max_tokens, " exceed the KV memory of ",
                                                   kv_tokens, " tokens"));
  }
  if (static_cast<int64_t>(request.resume_tokens.size()) > max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("resume_tokens has ",
                                                   request.resume_tokens.size(),
                                                   " tokens, more than max_tokens ", max_tokens));
  }
  return static_cast<int32_t>(max_tokens);
}

}  // namespace

absl::StatusOr<int32_t> CheckRequest(const GenerateRequest& request, const WorkerFacts& cell) {
  if (request.prompt.empty()) return absl::InvalidArgumentError("prompt has no tokens");
  ASSIGN_OR_RETURN(const int32_t max_tokens, ResolveMaxTokens(request, cell));
  RETURN_IF_ERROR(CheckIds("prompt", request.prompt, cell.vocab_size));
  RETURN_IF_ERROR(CheckResume(request, cell));
  RETURN_IF_ERROR(CheckSampling(request.sampling));
  RETURN_IF_ERROR(CheckLogitBias(request.logit_bias, cell.vocab_size));
  RETURN_IF_ERROR(CheckBetween("min_tokens", request.min_tokens, 0, max_tokens));
  RETURN_IF_ERROR(CheckBetween("logprobs", request.logprobs.value_or(0), 0, kLogprobsMax));
  RETURN_IF_ERROR(
      CheckBetween("prompt_logprobs", request.prompt_logprobs.value_or(0), 0, kLogprobsMax));
  RETURN_IF_ERROR(CheckBetween("priority", request.priority, -kPriorityMax, kPriorityMax));
  RETURN_IF_ERROR(CheckStops(request, cell));
  return max_tokens;
}

absl::Status CheckQueue(const QueueLength& waiting, int32_t queue_max) {
  const int64_t free = int64_t{queue_max} - waiting.all;
  if (free <= 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", waiting.all, " requests wait, at most ", queue_max));
  }
  if (waiting.of_client < kQueueShare * free) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the queue is full for this client: ", waiting.of_client,
                   " of its requests wait, ", free, " places are left for others"));
}

void RetryAfter::RequestLeft(absl::Time now) {
  if (last_ != absl::InfinitePast()) mean_ = 0.9 * mean_ + 0.1 * (now - last_);
  last_ = now;
}

absl::Duration RetryAfter::Estimate() const {
  return std::clamp(mean_, absl::Milliseconds(100), absl::Seconds(30));
}

}  // namespace pregate::scheduler
