#include "scheduler_service/edge/request_log.h"

#include <cmath>
#include <utility>

#include "common/base/limits.h"

namespace pregate {
namespace {

double Milliseconds(absl::Duration d) {
  return std::round(absl::ToDoubleMilliseconds(d) * 10) / 10;
}

// What a client did wrong may quote what it sent, which no log holds.
std::string Reason(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? "" : std::string(status.message());
}

}  // namespace

bool RequestLog::Take(int64_t* left_out) {
  const absl::Time now = clock_->Now();
  absl::MutexLock lock(&mutex_);
  if (now - second_ >= absl::Seconds(1)) {
    second_ = now;
    lines_ = 0;
  }
  if (lines_ == kRequestLinesMax) {
    ++left_out_;
    return false;
  }
  ++lines_;
  *left_out = std::exchange(left_out_, 0);
  return true;
}

void RequestLog::Add(const std::string& request_id, const std::string& tenant,
                     const absl::Status& status, const DoneInfo& done) {
  int64_t left_out = 0;
  if (!Take(&left_out)) return;
  if (left_out > 0) log_->Info("requests without a line", {{"count", left_out}});
  const bool generated = done.generated_tokens > 0;
  log_->Info("request", {{"id", request_id},
                         {"tenant", tenant},
                         {"prompt_tokens", done.prompt_tokens},
                         {"generated_tokens", done.generated_tokens},
                         {"ttft_ms", generated ? Milliseconds(done.ttft) : std::nan("")},
                         {"total_ms", Milliseconds(done.total)},
                         {"finish", done.status.ok() ? FinishReasonName(done.reason) : ""},
                         {"status", absl::StatusCodeToString(status.code())},
                         {"reason", Reason(status)}});
}

}  // namespace pregate
