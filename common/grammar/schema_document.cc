#include "common/grammar/schema_document.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

int64_t SizeOf(const Schema& schema) {
  int64_t size = 1;
  if (!schema.is_structured()) return size;
  for (const Schema& part : schema) size += SizeOf(part);
  return size;
}

bool HasObjectKeywords(const Schema& schema) {
  return schema.contains("properties") || schema.contains("additionalProperties");
}

bool SameProperties(const Schema& a, const Schema& b) {
  const auto names = [](const Schema& schema) {
    std::vector<std::string> out;
    const auto it = schema.find("properties");
    if (it != schema.end() && it->is_object()) {
      for (const auto& [name, value] : it->items()) out.push_back(name);
    }
    std::sort(out.begin(), out.end());
    return out;
  };
  return names(a) == names(b);
}

// The members of `a` that are in `b` too.
Schema Common(const Schema& a, const Schema& b) {
  Schema out = Schema::array();
  for (const Schema& value : a) {
    if (std::find(b.begin(), b.end(), value) != b.end()) out.push_back(value);
  }
  return out;
}

Schema AsList(const Schema& value) { return value.is_array() ? value : Schema::array({value}); }

// "integer" is a kind of "number".
Schema CommonTypes(const Schema& a, const Schema& b) {
  const Schema left = AsList(a), right = AsList(b);
  const auto has = [](const Schema& list, const char* type) {
    return std::find(list.begin(), list.end(), type) != list.end();
  };
  Schema out = Common(left, right);
  if (has(out, "integer")) return out;
  const bool narrows = (has(left, "integer") && has(right, "number")) ||
                       (has(left, "number") && has(right, "integer"));
  if (narrows) out.push_back("integer");
  return out;
}

}  // namespace

absl::Status SchemaDocument::Count(int64_t steps, std::string_view pointer) {
  if ((steps_ += steps) <= kSchemaStepsMax) return absl::OkStatus();
  return SchemaError(pointer,
                     absl::StrCat("too large: more than ", kSchemaStepsMax, " steps to read"));
}

absl::StatusOr<SchemaAt> SchemaDocument::Resolve(const Schema& schema, std::string_view pointer) {
  const std::string where = MemberPointer(pointer, "$ref");
  const Schema& ref = schema.at("$ref");
  if (!ref.is_string()) return SchemaError(where, "expected a string");
  const std::string target = ref.get<std::string>();
  if (target != "#" && target.substr(0, 2) != "#/") {
    return SchemaError(where, absl::StrCat("\"", target.substr(0, 80),
                                           "\" is not within this schema (\"#\" or \"#/...\")"));
  }
  if (target.find('%') != std::string::npos) {
    return SchemaError(where, "percent-encoded references are not supported");
  }
  const Schema* at = &root_;
  for (size_t begin = 1; begin < target.size();) {
    const size_t end = std::min(target.find('/', begin + 1), target.size());
    std::string name;
    for (size_t i = begin + 1; i < end; ++i) {
      const bool escaped = target[i] == '~' && i + 1 < end;
      name += !escaped ? target[i] : target[++i] == '1' ? '/' : '~';
    }
    RETURN_IF_ERROR(Count(1, where));
    const Schema* next = nullptr;
    if (at->is_object() && at->contains(name)) next = &at->at(name);
    if (at->is_array() && !name.empty() && name.size() < 7 &&
        name.find_first_not_of("0123456789") == std::string::npos) {
      const size_t index = static_cast<size_t>(std::stoul(name));
      if (index < at->size()) next = &at->at(index);
    }
    if (next == nullptr) {
      return SchemaError(where, absl::StrCat("\"", target.substr(0, 80), "\" does not exist"));
    }
    at = next;
    begin = end;
  }
  return SchemaAt{*at, target.substr(1)};
}

absl::StatusOr<SchemaAt> SchemaDocument::Flatten(SchemaAt at, int depth) {
  RETURN_IF_ERROR(Count(1, at.pointer));
  if (depth > kSchemaNestingMax) {
    return SchemaError(at.pointer, "references or allOf nested too deep, or in a circle");
  }
  if (at.schema.is_boolean()) return at;
  if (!at.schema.is_object()) {
    return SchemaError(at.pointer, absl::StrCat("expected a schema, got ", ExcerptOf(at.schema)));
  }
  RETURN_IF_ERROR(CheckKeywords(at.schema, at.pointer));
  std::vector<SchemaAt> parts;
  if (at.schema.contains("$ref")) {
    ASSIGN_OR_RETURN(SchemaAt target, Resolve(at.schema, at.pointer));
    parts.push_back(std::move(target));
  }
  if (at.schema.contains("allOf")) {
    const std::string where = MemberPointer(at.pointer, "allOf");
    const Schema& all = at.schema.at("allOf");
    if (!all.is_array() || all.empty()) return SchemaError(where, "expected a list of schemas");
    for (size_t i = 0; i < all.size(); ++i) {
      parts.push_back({all[i], MemberPointer(where, absl::StrCat(i))});
    }
  }
  at.schema.erase("$ref");
  at.schema.erase("allOf");
  for (SchemaAt& part : parts) {
    RETURN_IF_ERROR(Count(SizeOf(part.schema), at.pointer));
    ASSIGN_OR_RETURN(const SchemaAt flat, Flatten(std::move(part), depth + 1));
    ASSIGN_OR_RETURN(at.schema, Merge(flat.schema, at.schema, at.pointer, depth + 1));
    if (at.schema.is_boolean()) return at;
  }
  return at;
}

absl::StatusOr<Schema> SchemaDocument::Merge(const Schema& a, const Schema& b,
                                             std::string_view pointer, int depth) {
  RETURN_IF_ERROR(Count(SizeOf(a) + SizeOf(b), pointer));
  if (depth > kSchemaNestingMax) return SchemaError(pointer, "schemas nested too deep to merge");
  if (a.is_boolean()) return a.get<bool>() ? b : a;
  if (b.is_boolean()) return b.get<bool>() ? a : b;
  if (!a.is_object() || !b.is_object()) return SchemaError(pointer, "expected a schema");
  // What is additional depends on the properties beside it.
  const bool closed = a.contains("additionalProperties") || b.contains("additionalProperties");
  if (closed && HasObjectKeywords(a) && HasObjectKeywords(b) && !SameProperties(a, b)) {
    return SchemaError(pointer,
                       "additionalProperties beside other properties in schemas that are to hold "
                       "together is not supported");
  }
  Schema merged = a;
  for (const auto& [keyword, value] : b.items()) {
    if (KindOf(keyword) == SchemaKeyword::kNote) continue;
    if (!merged.contains(keyword)) {
      merged[keyword] = value;
    } else if (merged[keyword] != value) {
      RETURN_IF_ERROR(MergeKeyword(keyword, value, pointer, depth, &merged));
    }
  }
  return merged;
}

absl::Status SchemaDocument::MergeKeyword(const std::string& keyword, const Schema& value,
                                          std::string_view pointer, int depth, Schema* into) {
  Schema& own = (*into)[keyword];
  const bool numbers = own.is_number() && value.is_number();
  const bool lists = own.is_array() && value.is_array();
  if (keyword == "properties") return MergeProperties(value, pointer, depth, into);
  if (keyword == "type") {
    own = CommonTypes(own, value);
    return own.empty() ? SchemaError(pointer, "types that exclude each other") : absl::OkStatus();
  }
  if (keyword == "required" && lists) {
    for (const Schema& name : value) {
      if (std::find(own.begin(), own.end(), name) == own.end()) own.push_back(name);
    }
    return absl::OkStatus();
  }
  if (keyword == "enum" && lists) {
    own = Common(own, value);
    return absl::OkStatus();
  }
  if ((keyword.substr(0, 3) == "min" || keyword == "exclusiveMinimum") && numbers) {
    own = std::max(own, value);
    return absl::OkStatus();
  }
  if ((keyword.substr(0, 3) == "max" || keyword == "exclusiveMaximum") && numbers) {
    own = std::min(own, value);
    return absl::OkStatus();
  }
  const bool schemas = keyword == "items" || keyword == "additionalProperties";
  if (schemas) {
    ASSIGN_OR_RETURN(Schema both, Merge(own, value, MemberPointer(pointer, keyword), depth + 1));
    own = std::move(both);
    return absl::OkStatus();
  }
  return SchemaError(pointer, absl::StrCat("two values of \"", keyword,
                                           "\" that are to hold together are not supported"));
}

absl::Status SchemaDocument::MergeProperties(const Schema& value, std::string_view pointer,
                                             int depth, Schema* into) {
  Schema& own = (*into)["properties"];
  const std::string where = MemberPointer(pointer, "properties");
  if (!own.is_object() || !value.is_object()) return SchemaError(where, "expected an object");
  for (const auto& [name, property] : value.items()) {
    if (!own.contains(name)) {
      own[name] = property;
      continue;
    }
    ASSIGN_OR_RETURN(Schema both,
                     Merge(own[name], property, MemberPointer(where, name), depth + 1));
    own[name] = std::move(both);
  }
  return absl::OkStatus();
}

}  // namespace pregate
