#include "sim/cost_file.h"

#include "absl/strings/str_cat.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate::sim {
namespace {

constexpr double kSecondsMax = 3600;

using Json = nlohmann::json;

// The value at "a.b", or null.
const Json* Find(const Json& root, const char* group, const char* name) {
  const Json* at = &root;
  for (const char* key : {group, name}) {
    if (*key == '\0') continue;
    if (!at->is_object() || !at->contains(key)) return nullptr;
    at = &at->at(key);
  }
  return at;
}

std::string Path(const char* group, const char* name) {
  return *group ? absl::StrCat(group, ".", name) : name;
}

absl::Status Seconds(const Json& root, const char* group, const char* name, double* out) {
  const Json* value = Find(root, group, name);
  if (value == nullptr || !value->is_number()) {
    return absl::InvalidArgumentError(absl::StrCat(Path(group, name), " must be a number"));
  }
  *out = value->get<double>();
  if (*out >= 0 && *out <= kSecondsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Path(group, name), " is ", *out, ", must be 0..", kSecondsMax));
}

absl::Status Count(const Json& root, const char* name, int32_t max, int32_t* out) {
  const Json* value = Find(root, "model", name);
  if (value != nullptr && value->is_number_integer() && value->get<int64_t>() >= 1 &&
      value->get<int64_t>() <= max) {
    *out = value->get<int32_t>();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("model.", name, " must be an integer within 1..", max));
}

absl::Status Text(const Json& root, const char* name, std::string* out) {
  const Json* value = Find(root, "", name);
  if (value == nullptr || !value->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " must be a string"));
  }
  *out = value->get<std::string>();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Costs> ParseCosts(absl::string_view json) {
  ASSIGN_OR_RETURN(const Json root, ParseJson({json.data(), json.size()}, "costs"));
  Costs c;
  RETURN_IF_ERROR(Text(root, "machine", &c.machine));
  RETURN_IF_ERROR(Text(root, "source", &c.source));
  RETURN_IF_ERROR(Count(root, "layers", kLayersMax, &c.layers));
  RETURN_IF_ERROR(Count(root, "experts", kExpertsMax, &c.experts));
  RETURN_IF_ERROR(Seconds(root, "step", "base_s", &c.base_s));
  RETURN_IF_ERROR(Seconds(root, "step", "token_s", &c.token_s));
  RETURN_IF_ERROR(Seconds(root, "step", "expert_read_s", &c.expert_read_s));
  RETURN_IF_ERROR(Seconds(root, "step", "key_s", &c.key_s));
  RETURN_IF_ERROR(Seconds(root, "step", "pair_s", &c.pair_s));
  RETURN_IF_ERROR(Seconds(root, "step", "sample_s", &c.sample_s));
  RETURN_IF_ERROR(Seconds(root, "unit", "load_s", &c.unit_load_s));
  RETURN_IF_ERROR(Seconds(root, "router", "request_s", &c.route_request_s));
  RETURN_IF_ERROR(Seconds(root, "router", "token_s", &c.route_token_s));
  RETURN_IF_ERROR(Seconds(root, "", "link_s", &c.link_s));
  return c;
}

}  // namespace pregate::sim
