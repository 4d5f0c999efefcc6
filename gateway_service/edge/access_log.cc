#include "gateway_service/edge/access_log.h"

#include <cmath>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/limits.h"

namespace pregate::gateway {
namespace {

double Milliseconds(absl::Duration d) {
  return std::round(absl::ToDoubleMilliseconds(d) * 10) / 10;
}

// What a client did wrong may quote what it sent, which no log holds.
std::string Reason(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? "" : std::string(status.message());
}

}  // namespace

bool AccessLog::Take(int64_t* left_out) {
  const absl::Time now = absl::Now();
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

void AccessLog::Add(const Who& who, const ExchangeOutcome& outcome) {
  int64_t left_out = 0;
  if (!Take(&left_out)) return;
  if (left_out > 0) log_->Info("http requests without a line", {{"count", left_out}});
  const bool generated = outcome.generated_tokens > 0;
  log_->Info("http request", {{"id", who.id},
                              {"route", who.route},
                              {"tenant", who.tenant},
                              {"traceparent", who.traceparent},
                              {"http_status", outcome.http_status},
                              {"prompt_tokens", outcome.prompt_tokens},
                              {"generated_tokens", outcome.generated_tokens},
                              {"ttft_ms", generated ? Milliseconds(outcome.ttft) : std::nan("")},
                              {"total_ms", Milliseconds(outcome.total)},
                              {"reason", Reason(outcome.status)}});
}

}  // namespace pregate::gateway
