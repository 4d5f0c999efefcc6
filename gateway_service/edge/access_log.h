// One line for each generation that was asked for over HTTP, when it is over.
#pragma once

#include <string>

#include "common/telemetry/log.h"
#include "common/telemetry/request_lines.h"
#include "gateway_service/edge/generation_exchange.h"

namespace pregate::gateway {

// At most kRequestLinesMax lines a second: the rest are counted in the next line. Thread-safe.
class AccessLog {
 public:
  explicit AccessLog(const Log* log) : log_(log) {}

  struct Who {
    std::string route, id, tenant, traceparent;
  };
  void Add(const Who& who, const ExchangeOutcome& outcome);

 private:
  const Log* const log_;
  RequestLines lines_;
};

}  // namespace pregate::gateway
