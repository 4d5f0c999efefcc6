#include "gateway_service/edge/access_log.h"

#include <cmath>

#include "absl/time/clock.h"

namespace pregate::gateway {

void AccessLog::Add(const Who& who, const ExchangeOutcome& outcome) {
  int64_t left_out = 0;
  if (!lines_.Take(absl::Now(), &left_out)) return;
  if (left_out > 0) log_->Info("http requests without a line", {{"count", left_out}});
  const bool generated = outcome.generated_tokens > 0;
  log_->Info("http request",
             {{"id", who.id},
              {"route", who.route},
              {"tenant", who.tenant},
              {"traceparent", who.traceparent},
              {"http_status", outcome.http_status},
              {"prompt_tokens", outcome.prompt_tokens},
              {"generated_tokens", outcome.generated_tokens},
              {"ttft_ms", generated ? RequestLines::Milliseconds(outcome.ttft) : std::nan("")},
              {"total_ms", RequestLines::Milliseconds(outcome.total)},
              {"reason", RequestLines::Reason(outcome.status)}});
}

}  // namespace pregate::gateway
