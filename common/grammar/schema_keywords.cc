#include "common/grammar/schema_keywords.h"

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

// Abseil's view of Debian's is no std::string_view.
std::string Text(std::string_view text) { return std::string(text); }

}  // namespace

SchemaKeyword KindOf(std::string_view keyword) {
  using enum SchemaKeyword;
  static const auto* const kinds = new absl::flat_hash_map<std::string, SchemaKeyword>{
      {"$schema", kNote},
      {"$id", kNote},
      {"$comment", kNote},
      {"$defs", kNote},
      {"definitions", kNote},
      {"title", kNote},
      {"description", kNote},
      {"default", kNote},
      {"examples", kNote},
      {"deprecated", kNote},
      {"readOnly", kNote},
      {"writeOnly", kNote},
      {"contentEncoding", kNote},
      {"contentMediaType", kNote},
      {"$ref", kAny},
      {"type", kAny},
      {"enum", kAny},
      {"const", kAny},
      {"anyOf", kAny},
      {"oneOf", kAny},
      {"allOf", kAny},
      {"properties", kObject},
      {"required", kObject},
      {"additionalProperties", kObject},
      {"items", kArray},
      {"prefixItems", kArray},
      {"minItems", kArray},
      {"maxItems", kArray},
      {"uniqueItems", kArray},
      {"minLength", kString},
      {"maxLength", kString},
      {"pattern", kString},
      {"format", kString},
      {"minimum", kNumber},
      {"maximum", kNumber},
      {"exclusiveMinimum", kNumber},
      {"exclusiveMaximum", kNumber},
  };
  const auto it = kinds->find(Text(keyword));
  if (it != kinds->end()) return it->second;
  return keyword.substr(0, 2) == "x-" ? kNote : kUnsupported;
}

absl::Status SchemaError(std::string_view pointer, std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("json_schema: ", pointer.empty() ? "/" : Text(pointer), ": ", Text(what)));
}

std::string MemberPointer(std::string_view pointer, std::string_view member) {
  std::string out = absl::StrCat(Text(pointer), "/");
  for (const char c : member) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

std::string ExcerptOf(const Schema& value) {
  const std::string text = value.dump(-1, ' ', false, Schema::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 80) + "...";
}

absl::Status CheckKeywords(const Schema& schema, std::string_view pointer) {
  for (const auto& [keyword, value] : schema.items()) {
    if (KindOf(keyword) == SchemaKeyword::kUnsupported) {
      return SchemaError(MemberPointer(pointer, keyword), "this keyword is not supported");
    }
  }
  return absl::OkStatus();
}

bool Restricts(const Schema& schema, std::string_view but) {
  for (const auto& [keyword, value] : schema.items()) {
    if (keyword != but && KindOf(keyword) != SchemaKeyword::kNote) return true;
  }
  return false;
}

}  // namespace pregate
