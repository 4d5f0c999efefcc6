// The kinds of options: how each reads its text, what a file may give it, how it is printed.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/config/values.h"

namespace pregate {
namespace {

using Type = ConfigValue::Type;

template <typename T>
absl::Status CheckRange(
    T value, T min, T max, absl::string_view unit,
    std::string (*format)(T) = [](T v) { return absl::StrCat(v); }) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(format(value), " is outside of ", format(min),
                                                 " to ", format(max), unit.empty() ? "" : " ",
                                                 unit));
}

}  // namespace

Option& OptionSet::AddScalar(std::string name, std::string unit, std::string description,
                             std::function<absl::Status(absl::string_view)> parse) {
  Option& option = Add(std::move(name), std::move(unit), std::move(description));
  option.parse_ = [parse = std::move(parse)](const std::vector<std::string>& texts) {
    PREGATE_CHECK(texts.size() == 1);
    return parse(texts.front());
  };
  return option;
}

Option& OptionSet::String(std::string name, std::string* value, std::string description) {
  Option& option =
      AddScalar(std::move(name), "", std::move(description), [value](absl::string_view text) {
        *value = std::string(text);
        return absl::OkStatus();
      });
  option.placeholder_ = "TEXT";
  option.file_types_ = {Type::kString};
  option.print_ = [value] { return *value; };
  return option;
}

Option& OptionSet::Strings(std::string name, std::vector<std::string>* value,
                           std::string description) {
  Option& option = Add(std::move(name), "comma-separated", std::move(description));
  option.placeholder_ = "A,B,...";
  option.is_list_ = true;
  option.file_types_ = {Type::kStrings, Type::kString};
  option.parse_ = [value](const std::vector<std::string>& texts) {
    value->clear();
    for (const std::string& text : texts) {
      for (absl::string_view item : absl::StrSplit(text, ',', absl::SkipWhitespace())) {
        value->emplace_back(absl::StripAsciiWhitespace(item));
      }
    }
    return absl::OkStatus();
  };
  option.print_ = [value] { return absl::StrJoin(*value, ","); };
  return option;
}

Option& OptionSet::Choice(std::string name, std::string* value, std::vector<std::string> choices,
                          std::string description) {
  Option& option =
      AddScalar(std::move(name), absl::StrJoin(choices, "|"), std::move(description),
                [value, choices](absl::string_view text) -> absl::Status {
                  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
                    return absl::InvalidArgumentError(
                        absl::StrCat("'", text, "' is not one of ", absl::StrJoin(choices, ", ")));
                  }
                  *value = std::string(text);
                  return absl::OkStatus();
                });
  option.placeholder_ = "WORD";
  option.choices_ = std::move(choices);
  option.file_types_ = {Type::kString};
  option.print_ = [value] { return *value; };
  return option;
}

Option& OptionSet::Int(std::string name, int32_t* value, int32_t min, int32_t max, std::string unit,
                       std::string description) {
  Option& option = AddScalar(std::move(name), unit, std::move(description),
                             [=](absl::string_view text) -> absl::Status {
                               ASSIGN_OR_RETURN(const int64_t parsed, ParseInt(text));
                               RETURN_IF_ERROR(CheckRange<int64_t>(parsed, min, max, unit));
                               *value = static_cast<int32_t>(parsed);
                               return absl::OkStatus();
                             });
  option.placeholder_ = "N";
  option.file_types_ = {Type::kInteger};
  option.print_ = [value] { return absl::StrCat(*value); };
  return option;
}

Option& OptionSet::IntOrAuto(std::string name, std::optional<int32_t>* value, int32_t min,
                             int32_t max, std::string unit, std::string description) {
  Option& option = AddScalar(std::move(name), unit, std::move(description),
                             [=](absl::string_view text) -> absl::Status {
                               if (text == "auto") {
                                 *value = std::nullopt;
                                 return absl::OkStatus();
                               }
                               ASSIGN_OR_RETURN(const int64_t parsed, ParseInt(text));
                               RETURN_IF_ERROR(CheckRange<int64_t>(parsed, min, max, unit));
                               *value = static_cast<int32_t>(parsed);
                               return absl::OkStatus();
                             });
  option.placeholder_ = "N|auto";
  option.file_types_ = {Type::kInteger, Type::kString};
  option.print_ = [value] { return value->has_value() ? absl::StrCat(**value) : "auto"; };
  return option;
}

Option& OptionSet::Count(std::string name, int32_t* value, int32_t min, int32_t max,
                         std::string unit, std::string description) {
  Option& option = AddScalar(
      std::move(name), unit, std::move(description), [=](absl::string_view text) -> absl::Status {
        ASSIGN_OR_RETURN(const int64_t parsed, ParseCount(text));
        RETURN_IF_ERROR(CheckRange<int64_t>(parsed, min, max, unit, FormatCount));
        *value = static_cast<int32_t>(parsed);
        return absl::OkStatus();
      });
  option.placeholder_ = "COUNT";
  option.file_types_ = {Type::kInteger, Type::kString};
  option.print_ = [value] { return FormatCount(*value); };
  return option;
}

Option& OptionSet::OptionalUint64(std::string name, std::optional<uint64_t>* value,
                                  std::string description) {
  Option& option = AddScalar(std::move(name), "", std::move(description),
                             [value](absl::string_view text) -> absl::Status {
                               uint64_t parsed = 0;
                               if (!absl::SimpleAtoi(text, &parsed)) {
                                 return absl::InvalidArgumentError(
                                     absl::StrCat("'", text, "' is not a number below 2^64"));
                               }
                               *value = parsed;
                               return absl::OkStatus();
                             });
  option.placeholder_ = "N";
  option.file_types_ = {Type::kInteger, Type::kString};  // TOML's integers end at 2^63
  option.print_ = [value] { return value->has_value() ? absl::StrCat(**value) : std::string(); };
  return option;
}

Option& OptionSet::Double(std::string name, double* value, double min, double max, std::string unit,
                          std::string description) {
  Option& option = AddScalar(
      std::move(name), unit, std::move(description), [=](absl::string_view text) -> absl::Status {
        ASSIGN_OR_RETURN(const double parsed, ParseDouble(text));
        RETURN_IF_ERROR(CheckRange<double>(parsed, min, max, unit, FormatDouble));
        *value = parsed;
        return absl::OkStatus();
      });
  option.placeholder_ = "X";
  option.file_types_ = {Type::kFloat, Type::kInteger};
  option.print_ = [value] { return FormatDouble(*value); };
  return option;
}

Option& OptionSet::Bytes(std::string name, int64_t* value, int64_t min, int64_t max,
                         std::string description) {
  Option& option =
      AddScalar(std::move(name), "bytes", std::move(description),
                [=](absl::string_view text) -> absl::Status {
                  ASSIGN_OR_RETURN(const int64_t parsed, ParseBytes(text));
                  RETURN_IF_ERROR(CheckRange<int64_t>(parsed, min, max, "", FormatBytes));
                  *value = parsed;
                  return absl::OkStatus();
                });
  option.placeholder_ = "SIZE";
  option.file_types_ = {Type::kString, Type::kInteger};
  option.print_ = [value] { return FormatBytes(*value); };
  return option;
}

Option& OptionSet::Duration(std::string name, absl::Duration* value, absl::Duration min,
                            absl::Duration max, std::string description) {
  const bool is_ms = absl::EndsWith(name, "-ms");
  PREGATE_CHECK(is_ms || absl::EndsWith(name, "-s"), "unit of ", name);
  const absl::Duration unit = is_ms ? absl::Milliseconds(1) : absl::Seconds(1);
  const std::string unit_name = is_ms ? "ms" : "s";
  Option& option = AddScalar(
      std::move(name), unit_name, std::move(description),
      [=](absl::string_view text) -> absl::Status {
        ASSIGN_OR_RETURN(const double parsed, ParseDouble(text));
        RETURN_IF_ERROR(CheckRange<double>(parsed, absl::FDivDuration(min, unit),
                                           absl::FDivDuration(max, unit), unit_name, FormatDouble));
        *value = parsed * unit;
        return absl::OkStatus();
      });
  option.placeholder_ = "X";
  option.file_types_ = {Type::kFloat, Type::kInteger};
  option.print_ = [=] { return FormatDouble(absl::FDivDuration(*value, unit)); };
  return option;
}

Option& OptionSet::Switch(std::string name, bool* value, std::string description) {
  Option& option = AddScalar(std::move(name), "", std::move(description),
                             [value](absl::string_view text) -> absl::Status {
                               ASSIGN_OR_RETURN(*value, ParseBool(text));
                               return absl::OkStatus();
                             });
  option.is_switch_ = true;
  option.file_types_ = {Type::kBoolean};
  option.print_ = [value] { return std::string(*value ? "true" : "false"); };
  return option;
}

}  // namespace pregate
