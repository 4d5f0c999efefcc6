// What goes wrong, as HTTP clients are told it: one table from a status to the HTTP status, type and
// code, in OpenAI's and in Anthropic's form.
//
// The field at fault becomes `param`: it is what our own statuses carry (Invalid, Unsupported), or
// the first word of the scheduler's ("temperature is 3, ...") where that is a field of the request.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate::gateway {

enum class Dialect { kOpenAi, kAnthropic };

struct ApiError {
  int http_status = 500;
  std::string message;
  std::string param;                // the field at fault; empty: none
  const char* type = "";            // OpenAI's
  const char* code = nullptr;       // OpenAI's; null: none
  const char* anthropic_type = "";  // Anthropic's
  absl::Duration retry_after;       // zero: the client is told no time
};

// `status` is not OK. Of an overload and of an outage the client is told when to try again: after
// `retry_after`, or a second where that is zero.
ApiError ToApiError(const absl::Status& status, absl::Duration retry_after = {});
// An error of HTTP itself, which no status stands for: 405, 408, 411, 413, 415, 431, 501.
ApiError HttpError(int http_status, std::string message);

// {"error": {...}} or {"type": "error", "error": {...}}.
std::string ErrorBody(const ApiError& error, Dialect dialect);

// A value that can never be right: 400. INVALID_ARGUMENT "FIELD WHY".
absl::Status Invalid(absl::string_view field, absl::string_view why);
// A value that is known and not to be had: 400 with code "unsupported_value". UNIMPLEMENTED.
absl::Status Unsupported(absl::string_view field, absl::string_view why);
// A field that nobody knows: 400 with code "unknown_parameter".
absl::Status UnknownField(absl::string_view field);
// A token that is missing or not known: 401.
absl::Status BadToken(absl::string_view why);

}  // namespace pregate::gateway
