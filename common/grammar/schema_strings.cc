#include "common/grammar/schema_strings.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"
#include "common/grammar/regex_grammar.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

// Every text of these is a valid date, time, ...; not every valid one is theirs (29 February).
constexpr const char* kDate =
    "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"
    "02-(0[1-9]|1[0-9]|2[0-8]))";
constexpr const char* kTime =
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
constexpr const char* kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
constexpr const char* kIpv4Byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
constexpr const char* kEmail =
    "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,32}){0,3}@"
    "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?(\\.[A-Za-z]{2,16}){1,3}";

// Empty: a format that is no more than a note, as the standard has it by default.
std::string FormatPattern(const std::string& format) {
  if (format == "date") return kDate;
  if (format == "time") return kTime;
  if (format == "date-time") return absl::StrCat("(", kDate, ")T(", kTime, ")");
  if (format == "uuid") return kUuid;
  if (format == "ipv4") return absl::StrCat(kIpv4Byte, "(\\.", kIpv4Byte, "){3}");
  if (format == "email") return kEmail;
  return "";
}

absl::StatusOr<std::string> TextOfKeyword(const Schema& schema, const char* keyword,
                                          const std::string& pointer) {
  if (!schema.contains(keyword)) return std::string();
  const Schema& value = schema.at(keyword);
  if (value.is_string()) return value.get<std::string>();
  return SchemaError(MemberPointer(pointer, keyword),
                     absl::StrCat("expected a string, got ", ExcerptOf(value)));
}

absl::StatusOr<Expr> Matching(const std::string& regex, RegexAnchors anchors,
                              const std::string& pointer, JsonText* json, Grammar* grammar) {
  absl::StatusOr<Expr> content = ParseRegex(regex, anchors, TextForm::kJsonString, grammar);
  if (!content.ok()) {
    return SchemaError(pointer, std::string(content.status().message()));
  }
  return json->Quoted(*content);
}

}  // namespace

absl::StatusOr<int64_t> CountOf(const Schema& schema, const char* keyword, int64_t fallback,
                                const std::string& pointer) {
  if (!schema.contains(keyword)) return fallback;
  const Schema& value = schema.at(keyword);
  const double count = value.is_number() ? value.get<double>() : -1;
  if (count < 0 || count != std::floor(count)) {
    return SchemaError(MemberPointer(pointer, keyword),
                       absl::StrCat("expected a count, got ", ExcerptOf(value)));
  }
  if (count > static_cast<double>(kGrammarRepeatsMax)) {
    return SchemaError(MemberPointer(pointer, keyword),
                       absl::StrCat(ExcerptOf(value), ", at most ", kGrammarRepeatsMax));
  }
  return static_cast<int64_t>(count);
}

absl::StatusOr<Expr> StringOf(const Schema& schema, const std::string& pointer, JsonText* json,
                              Grammar* grammar) {
  ASSIGN_OR_RETURN(const std::string format, TextOfKeyword(schema, "format", pointer));
  const std::string format_pattern = FormatPattern(format);
  const bool counted = schema.contains("minLength") || schema.contains("maxLength");
  const bool has_pattern = schema.contains("pattern");
  if (has_pattern + counted + !format_pattern.empty() > 1) {
    return SchemaError(pointer,
                       "only one of pattern, minLength or maxLength, and format can be held");
  }
  if (has_pattern) {
    ASSIGN_OR_RETURN(const std::string pattern, TextOfKeyword(schema, "pattern", pointer));
    return Matching(pattern, RegexAnchors::kSearch, MemberPointer(pointer, "pattern"), json,
                    grammar);
  }
  if (!format_pattern.empty()) {
    return Matching(format_pattern, RegexAnchors::kWhole, pointer, json, grammar);
  }
  if (!counted) return json->String();
  ASSIGN_OR_RETURN(const int64_t min, CountOf(schema, "minLength", 0, pointer));
  ASSIGN_OR_RETURN(const int64_t max, CountOf(schema, "maxLength", Grammar::kUnbounded, pointer));
  if (max != Grammar::kUnbounded && max < min) {
    return SchemaError(pointer, absl::StrCat("minLength ", min, " beside maxLength ", max));
  }
  return json->String(min, max);
}

}  // namespace pregate
