#include "gateway_service/core/api_error.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"

namespace pregate::gateway {
namespace {

// What our own statuses carry beside their text.
constexpr char kFieldPayload[] = "pregate/field";
constexpr char kCodePayload[] = "pregate/code";
constexpr char kUnknownCode[] = "unknown_parameter";
constexpr size_t kFieldBytesMax = 100;  // of a name that a client made up
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

struct Row {
  absl::StatusCode status;
  int http;
  const char* type;
  const char* code;
  const char* anthropic;
  bool retry;
};
constexpr char kRequest[] = "invalid_request_error", kServer[] = "server_error";
constexpr Row kRows[] = {
    {absl::StatusCode::kInvalidArgument, 400, kRequest, nullptr, kRequest, false},
    {absl::StatusCode::kOutOfRange, 400, kRequest, nullptr, kRequest, false},
    {absl::StatusCode::kFailedPrecondition, 400, kRequest, nullptr, kRequest, false},
    {absl::StatusCode::kUnimplemented, 400, kRequest, "unsupported_value", kRequest, false},
    {absl::StatusCode::kUnauthenticated, 401, kRequest, "invalid_api_key", "authentication_error",
     false},
    {absl::StatusCode::kNotFound, 404, kRequest, "model_not_found", "not_found_error", false},
    {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded",
     "rate_limit_error", true},
    {absl::StatusCode::kCancelled, 499, kServer, "cancelled", "api_error", false},
    {absl::StatusCode::kUnavailable, 503, kServer, "service_unavailable", "overloaded_error", true},
    // Of the gateway's own certificate: nothing that a client could mend.
    {absl::StatusCode::kPermissionDenied, 503, kServer, "service_unavailable", "api_error", false},
    {absl::StatusCode::kDeadlineExceeded, 504, kServer, "timeout", "timeout_error", false},
};
constexpr Row kInternal = {
    absl::StatusCode::kInternal, 500, kServer, "internal_error", "api_error", false};

const Row& RowOf(absl::StatusCode status) {
  for (const Row& row : kRows) {
    if (row.status == status) return row;
  }
  return kInternal;
}

// The gRPC API's own words for a field, where OpenAI has another one.
constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
    {"chat", "messages"},
    {"chat.messages", "messages"},
    {"text", "prompt"},
    {"tokens", "prompt"},
    {"stop_strings", "stop"},
    {"stop_tokens", "stop_token_ids"},
    {"stop_token_ids", "stop_token_ids"},
    {"max_tokens", "max_tokens"},
    {"model", "model"},
    {"temperature", "temperature"},
    {"top_p", "top_p"},
    {"top_k", "top_k"},
    {"min_p", "min_p"},
    {"repetition_penalty", "repetition_penalty"},
    {"prompt", "prompt"},
    {"seed", "seed"},
};

// The field that a message of the scheduler begins with.
std::string FieldOf(absl::string_view message) {
  const absl::string_view word = message.substr(0, message.find_first_of(" :"));
  const absl::string_view name = word.substr(0, word.find('['));
  for (const auto& [grpc, openai] : kNames) {
    if (name == grpc) return std::string(openai);
  }
  return "";
}

absl::Status Of(absl::string_view field, absl::Status status) {
  status.SetPayload(kFieldPayload, absl::Cord(field));
  return status;
}

}  // namespace

ApiError ToApiError(const absl::Status& status, absl::Duration retry_after) {
  const Row& row = RowOf(status.code());
  ApiError error = {.http_status = row.http,
                    .message = std::string(status.message()),
                    .type = row.type,
                    .code = row.code,
                    .anthropic_type = row.anthropic};
  if (error.message.empty()) error.message = absl::StatusCodeToString(status.code());
  if (row.retry) error.retry_after = retry_after > absl::ZeroDuration() ? retry_after : kRetryAfter;
  if (status.GetPayload(kCodePayload)) error.code = kUnknownCode;
  if (row.http != 400 && row.http != 404) return error;
  if (absl::StrContains(error.message, "exceed the context"))
    error.code = "context_length_exceeded";
  const auto field = status.GetPayload(kFieldPayload);
  error.param = field ? std::string(*field) : FieldOf(error.message);
  return error;
}

ApiError HttpError(int http_status, std::string message) {
  ApiError error = {.http_status = http_status,
                    .message = std::move(message),
                    .type = kRequest,
                    .anthropic_type = kRequest};
  if (http_status == 404) error.anthropic_type = "not_found_error";
  if (http_status == 413) error.anthropic_type = "request_too_large";
  if (http_status == 501) error.code = "not_implemented";
  return error;
}

std::string ErrorBody(const ApiError& error, Dialect dialect) {
  if (dialect == Dialect::kAnthropic) {
    return absl::StrCat(R"({"type":"error","error":{"type":")", error.anthropic_type,
                        R"(","message":)", JsonString(error.message), "}}");
  }
  return absl::StrCat(R"({"error":{"message":)", JsonString(error.message), R"(,"type":")",
                      error.type, R"(","param":)",
                      error.param.empty() ? "null" : JsonString(error.param), R"(,"code":)",
                      error.code == nullptr ? "null" : JsonString(error.code), "}}");
}

absl::Status Invalid(absl::string_view field, absl::string_view why) {
  return Of(field, absl::InvalidArgumentError(absl::StrCat(field, " ", why)));
}

absl::Status Unsupported(absl::string_view field, absl::string_view why) {
  return Of(field, absl::UnimplementedError(absl::StrCat(field, " ", why)));
}

absl::Status UnknownField(absl::string_view field) {
  field = field.substr(0, kFieldBytesMax);
  absl::Status status = Of(
      field, absl::InvalidArgumentError(absl::StrCat("'", field, "' is no field of this request")));
  status.SetPayload(kCodePayload, absl::Cord(kUnknownCode));
  return status;
}

absl::Status BadToken(absl::string_view why) { return absl::UnauthenticatedError(why); }

}  // namespace pregate::gateway
