// JSON from files that are not trusted: bounded size and depth, no duplicate keys, no exceptions,
// and typed access whose errors name the file and the key.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace pregate {

// UTF-8 text, with or without a byte-order mark. `where` names the file (and the part of it) in
// errors. REQUIRES: the caller has bounded text.size().
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& where);

// The same with the members of objects in the order of the text.
absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text,
                                                        const std::string& where);

// One JSON object with the name of where it came from. Borrows the object. A key that is absent or
// null yields the fallback, or an error where there is none.
class JsonObject {
 public:
  // `object` that is no JSON object: an InvalidArgument status.
  static absl::StatusOr<JsonObject> From(const nlohmann::json& object, std::string where);

  bool Has(const std::string& key) const;  // present and not null
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min, int64_t max,
                              std::optional<int64_t> fallback = std::nullopt) const;
  absl::StatusOr<double> Number(const std::string& key,
                                std::optional<double> fallback = std::nullopt) const;  // finite
  absl::StatusOr<bool> Bool(const std::string& key,
                            std::optional<bool> fallback = std::nullopt) const;
  absl::StatusOr<std::string> String(const std::string& key,
                                     std::optional<std::string> fallback = std::nullopt) const;
  // An array of at most `size_max` integers; a single integer counts as an array of one.
  absl::StatusOr<std::vector<int64_t>> Ints(const std::string& key, int64_t min, int64_t max,
                                            size_t size_max) const;
  absl::StatusOr<std::vector<double>> Numbers(const std::string& key,
                                              size_t size_max) const;  // an array, finite
  absl::StatusOr<std::vector<std::string>> Strings(const std::string& key,
                                                   int64_t size_max) const;  // an array
  absl::StatusOr<JsonObject> Object(const std::string& key) const;

  const nlohmann::json& json() const { return *json_; }
  const std::string& where() const { return where_; }

 private:
  JsonObject(const nlohmann::json* json, std::string where)
      : json_(json), where_(std::move(where)) {}
  absl::Status Bad(const std::string& key, const std::string& expected) const;

  const nlohmann::json* json_;
  std::string where_;
};

}  // namespace pregate
