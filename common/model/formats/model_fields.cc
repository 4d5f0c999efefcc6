#include "common/model/formats/model_fields.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/limits.h"
#include "common/base/mapped_file.h"
#include "common/base/status.h"
#include "common/model/formats/architectures.h"

namespace pregate {
namespace {

bool Matches(std::string_view pattern, std::string_view name) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == name;
  const std::string_view head = pattern.substr(0, star), tail = pattern.substr(star + 1);
  return name.size() >= head.size() + tail.size() && name.starts_with(head) && name.ends_with(tail);
}

std::vector<std::string> Names(const Fields& row) { return absl::StrSplit(row.names, ' '); }

const Fields* FindRow(const FieldTable& table, const std::string& name) {
  for (const Fields& row : table.rows) {
    for (const std::string& pattern : Names(row)) {
      if (Matches(pattern, name)) return &row;
    }
  }
  return nullptr;
}

nlohmann::json NeutralValues(const Fields& row) { return nlohmann::json::parse(row.neutral); }

absl::Status Refused(const std::string& where, const std::string& name, const std::string& value,
                     const Fields* row) {
  constexpr size_t kShownMax = 80;
  const std::string shown = value.size() > kShownMax ? value.substr(0, kShownMax) + "..." : value;
  const std::string advice = row == nullptr
                                 ? "the field is not known, and may change what the model computes"
                                 : row->advice;
  return absl::UnimplementedError(absl::StrCat(where, ": ", name.substr(0, kShownMax), " = ", shown,
                                               " is not supported", advice.empty() ? "" : ": ",
                                               advice));
}

std::string Dump(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status Refused(const std::string& where, const std::string& name, const nlohmann::json& value,
                     const Fields* row) {
  if (row == nullptr || !value.is_object() || !value.contains(row->member)) {
    return Refused(where, name, Dump(value), row);
  }
  return Refused(where, absl::StrCat(name, ".", row->member), Dump(value[row->member]), row);
}

absl::Status CheckJsonFile(const std::string& path, const FieldTable& table) {
  const auto text = ReadSmallFile(path, kIndexBytesMax);
  if (absl::IsNotFound(text.status())) return absl::OkStatus();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(*text, path));
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(json, path));
  return CheckFields(object, {&table});
}

}  // namespace

absl::Status CheckFields(const JsonObject& object, absl::Span<const FieldTable* const> tables) {
  for (const auto& item : object.json().items()) {
    if (item.value().is_null()) continue;
    const Fields* row = nullptr;
    for (const FieldTable* table : tables) {
      if (row == nullptr) row = FindRow(*table, item.key());
    }
    if (row != nullptr && row->use != FieldUse::kRefused) continue;
    bool neutral = false;
    if (row != nullptr) {
      for (const auto& value : NeutralValues(*row)) neutral |= value == item.value();
    }
    if (neutral) continue;
    return Refused(object.where(), item.key(), item.value(), row);
  }
  return absl::OkStatus();
}

absl::Status CheckGgufFields(const GgufFile& file, const Architecture& architecture) {
  const std::string own = absl::StrCat(architecture.gguf, ".");
  for (const std::string& key : file.Keys()) {
    const std::string name =
        key.starts_with(own) ? absl::StrCat("ARCH.", key.substr(own.size())) : key;
    bool ours = false;
    for (const char* space : {"general.", "ARCH.", "tokenizer.", "split.", "adapter."}) {
      ours |= name.starts_with(space);
    }
    const Fields* row = FindRow(architecture.gguf_fields, name);
    if (row == nullptr) row = FindRow(kGgufFields, name);
    if (!ours || (row != nullptr && row->use != FieldUse::kRefused)) continue;
    const std::string text = file.Text(key);
    bool neutral = false;
    if (row != nullptr) {
      for (const auto& value : NeutralValues(*row)) neutral |= value.dump() == text;
    }
    if (!neutral) return Refused(file.path(), key, text, row);
  }
  return absl::OkStatus();
}

absl::Status CheckTokenizerFields(const std::string& dir) {
  RETURN_IF_ERROR(CheckJsonFile(dir + "/tokenizer.json", kTokenizerFields));
  RETURN_IF_ERROR(CheckJsonFile(dir + "/tokenizer_config.json", kTokenizerConfigFields));
  return CheckJsonFile(dir + "/special_tokens_map.json", kSpecialTokensMapFields);
}

std::string FieldsMarkdown() {
  std::string out;
  std::vector<const FieldTable*> tables = {&kConfigFields};
  for (const Architecture& a : Architectures()) {
    if (!a.fields.rows.empty()) tables.push_back(&a.fields);
  }
  for (const FieldTable* table :
       {&kRopeFields, &kAuthorsConfigFields, &kGenerationConfigFields, &kTokenizerConfigFields,
        &kSpecialTokensMapFields, &kTokenizerFields, &kGgufFields}) {
    tables.push_back(table);
  }
  for (const Architecture& a : Architectures()) {
    if (!a.gguf_fields.rows.empty()) tables.push_back(&a.gguf_fields);
  }
  for (const FieldTable* table : tables) {
    absl::StrAppend(&out, "### ", table->file, "\n\n| fields | | why |\n|---|---|---|\n");
    for (const Fields& row : table->rows) {
      std::vector<std::string> values = {"null"};
      if (row.use == FieldUse::kRefused) {
        for (const auto& value : NeutralValues(row)) values.push_back(value.dump());
      }
      const std::string use = row.use == FieldUse::kRead ? "read"
                              : row.use == FieldUse::kHarmless
                                  ? "harmless"
                                  : "refused unless " + absl::StrJoin(values, ", ");
      absl::StrAppend(&out, "| `", absl::StrReplaceAll(row.names, {{" ", "` `"}}), "` | ", use,
                      " | ", row.why, " |\n");
    }
    absl::StrAppend(&out, "\n");
  }
  return out;
}

}  // namespace pregate
