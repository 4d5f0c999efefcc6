#include "gateway_service/core/json_field.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_text.h"

namespace pregate::gateway {
namespace {

constexpr size_t kShownBytesMax = 80;

absl::Status Wrong(absl::string_view name, const Json& value, absl::string_view wanted) {
  return Invalid(name, absl::StrCat("is ", Shown(value), ", not ", wanted));
}

}  // namespace

std::string Shown(const Json& value) {
  if (value.is_array()) return absl::StrCat("an array of ", value.size());
  if (value.is_object()) return "an object";
  if (!value.is_string()) return value.dump();
  const std::string& text = value.get_ref<const std::string&>();
  size_t size = std::min(text.size(), kShownBytesMax);
  while (size < text.size() && size > 0 && (text[size] & 0xC0) == 0x80) --size;
  return absl::StrCat(JsonString(text.substr(0, size)), size < text.size() ? "..." : "");
}

std::optional<Json> ParseJsonText(absl::string_view text) {
  if (JsonTooDeepAt({text.data(), text.size()})) return std::nullopt;
  Json parsed = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return std::nullopt;
  return parsed;
}

const Json& Member(const Json& object, const char* name) {
  static const Json kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

absl::StatusOr<double> ReadNumber(absl::string_view name, const Json& value, double min,
                                  double max) {
  const double number = value.is_number() ? value.get<double>() : min - 1;
  if (value.is_number() && number >= min && number <= max) return number;
  return Wrong(name, value, absl::StrCat("a number from ", min, " to ", max));
}

absl::StatusOr<int64_t> ReadInt(absl::string_view name, const Json& value, int64_t min,
                                int64_t max) {
  // A number beyond int64_t is unsigned, or a float.
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() &&
                      value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (fits && value.get<int64_t>() >= min && value.get<int64_t>() <= max) {
    return value.get<int64_t>();
  }
  return Wrong(name, value, absl::StrCat("a whole number from ", min, " to ", max));
}

absl::StatusOr<bool> ReadBool(absl::string_view name, const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  return Wrong(name, value, "true or false");
}

absl::StatusOr<std::string> ReadString(absl::string_view name, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return Wrong(name, value, "a string");
}

absl::StatusOr<std::vector<TokenId>> ReadIds(absl::string_view name, const Json& value) {
  if (!value.is_array()) return Wrong(name, value, "an array of token ids");
  std::vector<TokenId> ids;
  ids.reserve(value.size());
  for (const Json& id : value) {
    ASSIGN_OR_RETURN(const int64_t read, ReadInt(absl::StrCat(name, "[", ids.size(), "]"), id, 0,
                                                 std::numeric_limits<TokenId>::max()));
    ids.push_back(static_cast<TokenId>(read));
  }
  return ids;
}

absl::StatusOr<std::string> ReadTextContent(absl::string_view name, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) {
    return Invalid(name,
                   absl::StrCat("is ", Shown(value), ", not a string or an array of text parts"));
  }
  std::string text;
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string part = absl::StrCat(name, "[", i, "]");
    if (!value[i].is_object()) {
      return Invalid(part, absl::StrCat("is ", Shown(value[i]), ", not an object"));
    }
    const Json type = value[i].value("type", Json());
    if (type != "text") {
      return Unsupported(absl::StrCat(part, ".type"),
                         absl::StrCat("is ", Shown(type), ": only \"text\" is supported"));
    }
    ASSIGN_OR_RETURN(const std::string read,
                     ReadString(absl::StrCat(part, ".text"), value[i].value("text", Json())));
    text += read;
  }
  return text;
}

}  // namespace pregate::gateway
