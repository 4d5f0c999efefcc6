#include "gateway_service/edge/http_exchange.h"

#include "absl/strings/str_cat.h"

namespace pregate::gateway {

absl::string_view HttpRequest::Header(absl::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return "";
}

HttpReply ErrorReply(const ApiError& error, Dialect dialect, HttpHeaders headers) {
  HttpReply reply = {.status = error.http_status,
                     .body = ErrorBody(error, dialect),
                     .headers = std::move(headers)};
  if (error.retry_after > absl::ZeroDuration()) {
    const int64_t ms = absl::ToInt64Milliseconds(error.retry_after);
    reply.headers.emplace_back("Retry-After", absl::StrCat((ms + 999) / 1000));
    reply.headers.emplace_back("Retry-After-Ms", absl::StrCat(ms));
  }
  return reply;
}

}  // namespace pregate::gateway
