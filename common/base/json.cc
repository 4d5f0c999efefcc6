#include "common/base/json.h"

#include <cmath>
#include <set>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace pregate {
namespace {

std::string ValueExcerpt(const nlohmann::json& value) {
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 80) + "...";
}

// Looks for a key that occurs twice in one object. A pass of its own, because the parser that builds
// values and calls back takes time in the square of an object's members.
class KeyWatch final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::string duplicate;

  bool start_object(size_t) override {
    keys_.emplace_back();
    return true;
  }
  bool key(std::string& key) override {
    if (!keys_.back().insert(key).second) duplicate = key;
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

template <class Json>
absl::StatusOr<Json> Parse(std::string_view text, const std::string& where) {
  ASSIGN_OR_RETURN(text, TextOf(text, where));
  if (const std::optional<size_t> at = JsonTooDeepAt(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": JSON nested deeper than ", kJsonDepthMax, " at byte ", *at));
  }
  Json value = Json::parse(text.begin(), text.end(), /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": malformed JSON"));
  }
  KeyWatch watch;
  nlohmann::json::sax_parse(text.begin(), text.end(), &watch);
  if (!watch.duplicate.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": key \"", watch.duplicate.substr(0, kTensorNameBytesMax), "\" occurs twice"));
  }
  return value;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& where) {
  return Parse<nlohmann::json>(text, where);
}

absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text,
                                                        const std::string& where) {
  return Parse<nlohmann::ordered_json>(text, where);
}

absl::StatusOr<JsonObject> JsonObject::From(const nlohmann::json& object, std::string where) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": expected a JSON object, got ", ValueExcerpt(object)));
  }
  return JsonObject(&object, std::move(where));
}

bool JsonObject::Has(const std::string& key) const {
  const auto it = json_->find(key);
  return it != json_->end() && !it->is_null();
}

absl::Status JsonObject::Bad(const std::string& key, const std::string& expected) const {
  if (!Has(key)) {
    return absl::InvalidArgumentError(absl::StrCat(where_, ": missing key \"", key, "\""));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      where_, ": \"", key, "\" is ", ValueExcerpt((*json_)[key]), ", expected ", expected));
}

absl::StatusOr<int64_t> JsonObject::Int(const std::string& key, int64_t min, int64_t max,
                                        std::optional<int64_t> fallback) const {
  if (!Has(key) && fallback) return *fallback;
  const std::string expected = absl::StrCat("an integer in [", min, ", ", max, "]");
  if (!Has(key) || !(*json_)[key].is_number_integer()) return Bad(key, expected);
  const auto& value = (*json_)[key];
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Bad(key, expected);
  }
  const int64_t number = value.get<int64_t>();
  if (number < min || number > max) return Bad(key, expected);
  return number;
}

absl::StatusOr<double> JsonObject::Number(const std::string& key,
                                          std::optional<double> fallback) const {
  if (!Has(key) && fallback) return *fallback;
  if (!Has(key) || !(*json_)[key].is_number()) return Bad(key, "a finite number");
  const double number = (*json_)[key].get<double>();
  if (!std::isfinite(number)) return Bad(key, "a finite number");
  return number;
}

absl::StatusOr<bool> JsonObject::Bool(const std::string& key, std::optional<bool> fallback) const {
  if (!Has(key) && fallback) return *fallback;
  if (!Has(key) || !(*json_)[key].is_boolean()) return Bad(key, "true or false");
  return (*json_)[key].get<bool>();
}

absl::StatusOr<std::string> JsonObject::String(const std::string& key,
                                               std::optional<std::string> fallback) const {
  if (!Has(key) && fallback) return *fallback;
  if (!Has(key) || !(*json_)[key].is_string()) return Bad(key, "a string");
  return (*json_)[key].get<std::string>();
}

absl::StatusOr<std::vector<int64_t>> JsonObject::Ints(const std::string& key, int64_t min,
                                                      int64_t max, size_t size_max) const {
  const std::string expected =
      absl::StrCat("at most ", size_max, " integers in [", min, ", ", max, "]");
  if (!Has(key)) return Bad(key, expected);
  const auto& value = (*json_)[key];
  const nlohmann::json list = value.is_array() ? value : nlohmann::json::array({value});
  if (list.size() > size_max) return Bad(key, expected);
  std::vector<int64_t> out;
  for (const auto& item : list) {
    if (!item.is_number_integer()) return Bad(key, expected);
    if (item.is_number_unsigned() && item.get<uint64_t>() > static_cast<uint64_t>(max)) {
      return Bad(key, expected);
    }
    out.push_back(item.get<int64_t>());
    if (out.back() < min || out.back() > max) return Bad(key, expected);
  }
  return out;
}

absl::StatusOr<std::vector<double>> JsonObject::Numbers(const std::string& key,
                                                        size_t size_max) const {
  const std::string expected = absl::StrCat("at most ", size_max, " finite numbers");
  if (!Has(key)) return Bad(key, expected);
  const auto& list = (*json_)[key];
  if (!list.is_array() || list.size() > size_max) return Bad(key, expected);
  std::vector<double> out;
  for (const auto& item : list) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) return Bad(key, expected);
    out.push_back(item.get<double>());
  }
  return out;
}

absl::StatusOr<std::vector<std::string>> JsonObject::Strings(const std::string& key,
                                                             int64_t size_max) const {
  const std::string expected = absl::StrCat("at most ", size_max, " strings");
  if (!Has(key)) return Bad(key, expected);
  const auto& list = (*json_)[key];
  if (!list.is_array() || list.size() > static_cast<size_t>(size_max)) return Bad(key, expected);
  std::vector<std::string> out;
  for (const auto& item : list) {
    if (!item.is_string()) return Bad(key, expected);
    out.push_back(item.get<std::string>());
  }
  return out;
}

absl::StatusOr<JsonObject> JsonObject::Object(const std::string& key) const {
  if (!Has(key)) return Bad(key, "an object");
  return From((*json_)[key], absl::StrCat(where_, ": ", key));
}

}  // namespace pregate
