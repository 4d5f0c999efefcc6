#include "gateway_service/core/request_field.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {
namespace {

constexpr int64_t kTokensMax = std::numeric_limits<int32_t>::max();

}  // namespace

absl::Status ReadFields(const Json& body, absl::Span<const RequestField> fields, Generation* out) {
  for (const auto& [name, value] : body.items()) {
    const auto field =
        std::find_if(fields.begin(), fields.end(),
                     [&name = name](const RequestField& f) { return name == f.name; });
    if (field == fields.end()) return UnknownField(name);
    if (value.is_null() || field->treatment == Treatment::kIgnored) continue;
    RETURN_IF_ERROR(field->read(name, value, out));
  }
  return absl::OkStatus();
}

absl::Status ReadModelName(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(out->model, ReadString(name, value));
  return absl::OkStatus();
}

absl::Status ReadStream(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(out->stream, ReadBool(name, value));
  return absl::OkStatus();
}

// Under either of its two names.
absl::Status ReadMaxTokens(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(const int64_t read, ReadInt(name, value, 1, kTokensMax));
  if (out->max_tokens.value_or(read) != read) {
    return Invalid(name, absl::StrCat("is ", read, ", but ", *out->max_tokens,
                                      " by its other name (max_tokens, max_completion_tokens)"));
  }
  out->max_tokens = static_cast<int32_t>(read);
  return absl::OkStatus();
}

absl::Status ReadTopP(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(const double read, ReadNumber(name, value, 0, 1));
  out->sampling.top_p = static_cast<float>(read);
  return absl::OkStatus();
}

absl::Status ReadTopK(absl::string_view name, const Json& value, Generation* out) {
  ASSIGN_OR_RETURN(const int64_t read, ReadInt(name, value, -1, kTokensMax));
  out->sampling.top_k = static_cast<int32_t>(std::max<int64_t>(read, 0));  // -1, too, is all
  return absl::OkStatus();
}

absl::Status ReadStopStrings(absl::string_view name, const Json& value, Generation* out) {
  if (value.is_string()) {
    out->stop_strings.push_back(value.get<std::string>());
  } else if (value.is_array() && value.size() <= static_cast<size_t>(kStopStringsMax)) {
    for (size_t i = 0; i < value.size(); ++i) {
      ASSIGN_OR_RETURN(std::string stop, ReadString(absl::StrCat(name, "[", i, "]"), value[i]));
      out->stop_strings.push_back(std::move(stop));
    }
  } else {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not a string or an array of at most ",
                                      kStopStringsMax, " strings"));
  }
  for (const std::string& stop : out->stop_strings) {
    if (!stop.empty() && stop.size() <= static_cast<size_t>(kStopStringBytesMax)) continue;
    return Invalid(name, absl::StrCat("has a string of ", stop.size(), " bytes, not 1 to ",
                                      kStopStringBytesMax));
  }
  return absl::OkStatus();
}

// Our own: {"return_routes": true, "no_drafts": true}.
absl::Status ReadPregate(absl::string_view name, const Json& value, Generation* out) {
  constexpr RequestField kFields[] = {
      {"return_routes", Treatment::kHonoured,
       [](absl::string_view field, const Json& given, Generation* to) -> absl::Status {
         ASSIGN_OR_RETURN(to->return_routes, ReadBool(absl::StrCat("pregate.", field), given));
         return absl::OkStatus();
       }},
      {"no_drafts", Treatment::kHonoured,
       [](absl::string_view field, const Json& given, Generation* to) -> absl::Status {
         ASSIGN_OR_RETURN(to->no_drafts, ReadBool(absl::StrCat("pregate.", field), given));
         return absl::OkStatus();
       }},
  };
  if (!value.is_object())
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  return ReadFields(value, kFields, out);
}

absl::Status OnlyEmpty(absl::string_view name, const Json& value, Generation*) {
  const bool empty = value.is_string() ? value.get_ref<const std::string&>().empty()
                                       : value.is_structured() && value.empty();
  if (empty) return absl::OkStatus();
  return Unsupported(name, absl::StrCat("is ", Shown(value), ": only an empty one is supported"));
}

absl::Status OnlyNull(absl::string_view name, const Json& value, Generation*) {
  return Unsupported(name, absl::StrCat("is ", Shown(value), ": it is not supported"));
}

}  // namespace pregate::gateway
