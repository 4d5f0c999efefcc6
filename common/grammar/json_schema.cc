#include "common/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "common/grammar/json_text.h"
#include "common/grammar/number_ranges.h"
#include "common/grammar/schema_document.h"
#include "common/grammar/schema_keywords.h"
#include "common/grammar/schema_strings.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

constexpr const char* kTypes[] = {"object",  "array",   "string", "number",
                                  "integer", "boolean", "null"};

bool HasKind(const Schema& schema, SchemaKeyword kind) {
  return std::any_of(schema.items().begin(), schema.items().end(),
                     [&](const auto& item) { return KindOf(item.key()) == kind; });
}

// The types that `schema` allows: those that it names, else those that its keywords are about, else
// none, which stands for all.
absl::StatusOr<std::vector<std::string>> TypesOf(const Schema& schema, const std::string& pointer) {
  std::vector<std::string> types;
  if (schema.contains("type")) {
    const Schema& type = schema.at("type");
    for (const Schema& name : type.is_array() ? type : Schema::array({type})) {
      const auto known = [&](const char* known) { return name == known; };
      if (!std::any_of(std::begin(kTypes), std::end(kTypes), known)) {
        return SchemaError(MemberPointer(pointer, "type"),
                           absl::StrCat("unknown type ", ExcerptOf(name)));
      }
      types.push_back(name.get<std::string>());
    }
    if (types.empty()) return SchemaError(MemberPointer(pointer, "type"), "names no type");
    return types;
  }
  if (HasKind(schema, SchemaKeyword::kObject)) types.push_back("object");
  if (HasKind(schema, SchemaKeyword::kArray)) types.push_back("array");
  if (HasKind(schema, SchemaKeyword::kString)) types.push_back("string");
  if (HasKind(schema, SchemaKeyword::kNumber)) types.push_back("number");
  return types;
}

bool HasType(const Schema& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  return value.is_number_integer() ||
         (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
}

class SchemaCompiler {
 public:
  SchemaCompiler(Schema root, Grammar* grammar)
      : document_(std::move(root)), grammar_(grammar), json_(grammar) {}

  absl::StatusOr<Grammar::Rule> Run() {
    refs_[""] = grammar_->NewRule();  // "#"
    pending_.push_back({document_.root(), ""});
    while (!pending_.empty()) {
      const SchemaAt next = std::move(pending_.back());
      pending_.pop_back();
      ASSIGN_OR_RETURN(const Expr expr, Value(next));
      grammar_->SetRule(refs_.at(next.pointer), expr);
    }
    return refs_.at("");
  }

 private:
  absl::StatusOr<Expr> Value(const SchemaAt& at) {
    if (depth_ >= kSchemaNestingMax) {
      return SchemaError(at.pointer,
                         "nested too deep, or a reference beside other keywords that leads back to "
                         "itself");
    }
    ++depth_;
    absl::StatusOr<Expr> expr = ValueInside(at);
    --depth_;
    return expr;
  }

  absl::StatusOr<Expr> ValueInside(const SchemaAt& at) {
    RETURN_IF_ERROR(document_.Count(1, at.pointer));
    if (grammar_->num_nodes() > kGrammarNodesMax) return SchemaError(at.pointer, "too large");
    if (at.schema.is_object() && at.schema.contains("$ref") && !Restricts(at.schema, "$ref")) {
      RETURN_IF_ERROR(CheckKeywords(at.schema, at.pointer));
      return Reference(at);
    }
    ASSIGN_OR_RETURN(const SchemaAt flat, document_.Flatten(at));
    if (flat.schema.is_boolean()) {
      return flat.schema.get<bool>() ? json_.Value() : grammar_->Choice({});
    }
    if (flat.schema.contains("anyOf") || flat.schema.contains("oneOf")) return AnyOf(flat);
    if (flat.schema.contains("enum") || flat.schema.contains("const")) return Listed(flat);
    return Typed(flat);
  }

  absl::StatusOr<Expr> Reference(const SchemaAt& at) {
    ASSIGN_OR_RETURN(SchemaAt target, document_.Resolve(at.schema, at.pointer));
    const auto [it, added] = refs_.try_emplace(target.pointer, 0);
    if (added) {
      it->second = grammar_->NewRule();
      pending_.push_back(std::move(target));
    }
    return grammar_->Call(it->second);
  }

  absl::StatusOr<Expr> AnyOf(const SchemaAt& at) {
    const bool both = at.schema.contains("anyOf") && at.schema.contains("oneOf");
    if (both) return SchemaError(at.pointer, "anyOf beside oneOf is not supported");
    const char* keyword = at.schema.contains("anyOf") ? "anyOf" : "oneOf";
    const std::string where = MemberPointer(at.pointer, keyword);
    const Schema& branches = at.schema.at(keyword);
    if (!branches.is_array() || branches.empty()) {
      return SchemaError(where, "expected a list of schemas");
    }
    Schema rest = at.schema;
    rest.erase(keyword);
    std::vector<Expr> choices;
    for (size_t i = 0; i < branches.size(); ++i) {
      SchemaAt branch{branches[i], MemberPointer(where, absl::StrCat(i))};
      if (Restricts(rest)) {
        ASSIGN_OR_RETURN(branch, document_.Flatten(std::move(branch)));
        ASSIGN_OR_RETURN(branch.schema, document_.Merge(rest, branch.schema, branch.pointer));
      }
      ASSIGN_OR_RETURN(const Expr choice, Value(branch));
      choices.push_back(choice);
    }
    return grammar_->Choice(std::move(choices));
  }

  // "enum" and "const": their values as they are written without white space.
  absl::StatusOr<Expr> Listed(const SchemaAt& at) {
    Schema values = Schema::array();
    const bool is_enum = at.schema.contains("enum");
    if (is_enum) values = at.schema.at("enum");
    if (!values.is_array()) {
      return SchemaError(MemberPointer(at.pointer, "enum"), "expected a list of values");
    }
    if (at.schema.contains("const")) {
      const Schema& value = at.schema.at("const");
      const bool excluded =
          is_enum && std::find(values.begin(), values.end(), value) == values.end();
      values = excluded ? Schema::array() : Schema::array({value});
    }
    for (const auto& [keyword, value] : at.schema.items()) {
      const bool held = keyword == "enum" || keyword == "const" || keyword == "type";
      if (!held && KindOf(keyword) != SchemaKeyword::kNote) {
        return SchemaError(MemberPointer(at.pointer, keyword),
                           "is not supported beside enum or const");
      }
    }
    ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(at.schema, at.pointer));
    std::vector<Expr> choices;
    for (const Schema& value : values) {
      const bool typed = std::any_of(types.begin(), types.end(),
                                     [&](const std::string& type) { return HasType(value, type); });
      if (typed || types.empty()) choices.push_back(grammar_->Literal(value.dump()));
    }
    return grammar_->Choice(std::move(choices));
  }

  absl::StatusOr<Expr> Typed(const SchemaAt& at) {
    ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(at.schema, at.pointer));
    if (types.empty()) return json_.Value();
    std::vector<Expr> choices;
    for (const std::string& type : types) {
      ASSIGN_OR_RETURN(const Expr choice, OfType(type, at));
      choices.push_back(choice);
    }
    return grammar_->Choice(std::move(choices));
  }

  absl::StatusOr<Expr> OfType(const std::string& type, const SchemaAt& at) {
    if (type == "object") return Object(at);
    if (type == "array") return Array(at);
    if (type == "string") return StringOf(at.schema, at.pointer, &json_, grammar_);
    if (type == "number" || type == "integer") return Number(at, type == "integer");
    return type == "boolean" ? json_.Boolean() : json_.Null();
  }

  // A schema of its own rule, for what is called often.
  absl::StatusOr<Expr> Shared(const SchemaAt& at) {
    ASSIGN_OR_RETURN(const Expr expr, Value(at));
    const bool call = grammar_->node(expr).kind == Grammar::Kind::kRule;
    return call ? expr : grammar_->Call(grammar_->NewRule(expr));
  }

  absl::StatusOr<Expr> Object(const SchemaAt& at) {
    const Schema& schema = at.schema;
    const Schema properties = schema.value("properties", Schema::object());
    const std::string where = MemberPointer(at.pointer, "properties");
    if (!properties.is_object()) return SchemaError(where, "expected an object");
    ASSIGN_OR_RETURN(std::set<std::string> required, Required(at));
    if (!HasKind(schema, SchemaKeyword::kObject)) return json_.Object();
    std::vector<Grammar::Item> members;
    std::vector<std::string> names;
    for (const auto& [name, property] : properties.items()) {
      ASSIGN_OR_RETURN(const Expr value, Value({property, MemberPointer(where, name)}));
      members.push_back({grammar_->Sequence({json_.Key(name), value}), required.erase(name) > 0});
      names.push_back(name);
    }
    RETURN_IF_ERROR(AddAdditional(at, required, &names, &members));
    const bool any = std::any_of(members.begin(), members.end(),
                                 [](const Grammar::Item& item) { return item.required; });
    if (members.empty()) return json_.Empty("{", "}");
    return json_.Bracketed("{", grammar_->List(std::move(members), json_.Comma()), "}", !any);
  }

  absl::StatusOr<std::set<std::string>> Required(const SchemaAt& at) {
    std::set<std::string> names;
    const Schema required = at.schema.value("required", Schema::array());
    const std::string where = MemberPointer(at.pointer, "required");
    if (!required.is_array()) return SchemaError(where, "expected a list of names");
    for (const Schema& name : required) {
      if (!name.is_string()) return SchemaError(where, "expected a list of names");
      names.insert(name.get<std::string>());
    }
    return names;
  }

  // Members beside the declared ones: those that are required, then any others. Without
  // "additionalProperties" there are none, unless nothing at all is said about names.
  absl::Status AddAdditional(const SchemaAt& at, const std::set<std::string>& required,
                             std::vector<std::string>* names, std::vector<Grammar::Item>* members) {
    const std::string where = MemberPointer(at.pointer, "additionalProperties");
    const bool said = at.schema.contains("additionalProperties");
    const Schema additional = said ? at.schema.at("additionalProperties") : Schema(true);
    const bool none = additional.is_boolean() && !additional.get<bool>();
    if (none && !required.empty()) {
      return SchemaError(MemberPointer(at.pointer, "required"),
                         absl::StrCat("\"", *required.begin(), "\" is not among the properties"));
    }
    if (none || (!said && required.empty())) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Expr value, Shared({additional, where}));
    for (const std::string& name : required) {
      members->push_back({grammar_->Sequence({json_.Key(name), value}), true});
      names->push_back(name);
    }
    if (!said) return absl::OkStatus();
    size_t name_bytes = 0;
    for (const std::string& name : *names) name_bytes += name.size();
    if (name_bytes > kSchemaNameBytesMax) {
      return SchemaError(where, absl::StrCat("beside names of ", name_bytes, " bytes, at most ",
                                             kSchemaNameBytesMax));
    }
    members->push_back({.expr = grammar_->Sequence({json_.OtherKey(*names), value}), .many = true});
    return absl::OkStatus();
  }

  absl::StatusOr<Expr> Array(const SchemaAt& at) {
    const Schema& schema = at.schema;
    if (schema.value("uniqueItems", Schema(false)) != false) {
      return SchemaError(MemberPointer(at.pointer, "uniqueItems"), "this keyword is not supported");
    }
    ASSIGN_OR_RETURN(const int64_t min, CountOf(schema, "minItems", 0, at.pointer));
    ASSIGN_OR_RETURN(int64_t max, CountOf(schema, "maxItems", Grammar::kUnbounded, at.pointer));
    ASSIGN_OR_RETURN(std::vector<Expr> prefix, PrefixItems(at));
    const auto num_prefix = static_cast<int64_t>(prefix.size());
    const std::string where = MemberPointer(at.pointer, "items");
    const Schema items = schema.value("items", Schema(true));
    if (items.is_array()) return SchemaError(where, "a list is not supported: say prefixItems");
    if (!schema.contains("items") && num_prefix > 0 && max == Grammar::kUnbounded) {
      max = std::max(min, num_prefix);
    }
    if (items.is_boolean() && !items.get<bool>()) {
      max = max == Grammar::kUnbounded ? num_prefix : std::min(max, num_prefix);
    }
    if (max != Grammar::kUnbounded && max < min) {
      return SchemaError(at.pointer, absl::StrCat("at least ", min, " items, at most ", max));
    }
    if (max == 0) return json_.Empty("[", "]");
    if (max != Grammar::kUnbounded && max < num_prefix) prefix.resize(static_cast<size_t>(max));
    Expr item = grammar_->Choice({});
    if (max == Grammar::kUnbounded || max > num_prefix) {
      ASSIGN_OR_RETURN(item, Shared({items, where}));
    }
    return json_.Bracketed("[", Items(prefix, item, min, max), "]", min == 0);
  }

  absl::StatusOr<std::vector<Expr>> PrefixItems(const SchemaAt& at) {
    std::vector<Expr> prefix;
    const std::string where = MemberPointer(at.pointer, "prefixItems");
    const Schema items = at.schema.value("prefixItems", Schema::array());
    if (!items.is_array()) return SchemaError(where, "expected a list of schemas");
    for (size_t i = 0; i < items.size(); ++i) {
      ASSIGN_OR_RETURN(const Expr item, Value({items[i], MemberPointer(where, absl::StrCat(i))}));
      prefix.push_back(item);
    }
    return prefix;
  }

  // One item at least: those of `prefix`, then any number of `item`, [min, max] of them together.
  Expr Items(const std::vector<Expr>& prefix, Expr item, int64_t min, int64_t max) {
    const auto behind = [&](Expr expr) { return grammar_->Sequence({json_.Comma(), expr}); };
    const bool plain = prefix.empty();
    const int64_t before = plain ? 1 : static_cast<int64_t>(prefix.size());
    const int64_t least = std::max<int64_t>(0, min - before);
    const int64_t most = max == Grammar::kUnbounded ? max : std::max<int64_t>(0, max - before);
    Expr rest = grammar_->Repeat(behind(item), least, most);
    for (int64_t i = before - 1; i > 0; --i) {
      rest = grammar_->Sequence({behind(prefix[static_cast<size_t>(i)]), rest});
      if (i >= min) rest = grammar_->Optional(rest);
    }
    return grammar_->Sequence({plain ? item : prefix[0], rest});
  }

  absl::StatusOr<Expr> Number(const SchemaAt& at, bool integer) {
    if (!HasKind(at.schema, SchemaKeyword::kNumber)) {
      return integer ? json_.Integer() : json_.Number();
    }
    const int64_t most = integer ? kIntegerTextMax : kNumberBoundMax;
    NumberBound min{-most}, max{most};
    for (const char* keyword : {"minimum", "exclusiveMinimum"}) {
      RETURN_IF_ERROR(Tighten(at, keyword, integer, /*sign=*/1, &min));
    }
    for (const char* keyword : {"maximum", "exclusiveMaximum"}) {
      RETURN_IF_ERROR(Tighten(at, keyword, integer, /*sign=*/-1, &max));
    }
    if (!integer) return NumberBetween(min, max, grammar_);
    return IntegerBetween(min.value + min.excluded, max.value - max.excluded, grammar_);
  }

  // Sets `bound` to the keyword's where that is tighter. `sign`: 1 for a lower bound, -1 for an
  // upper one.
  absl::Status Tighten(const SchemaAt& at, const char* keyword, bool integer, int sign,
                       NumberBound* bound) {
    if (!at.schema.contains(keyword)) return absl::OkStatus();
    const Schema& value = at.schema.at(keyword);
    const std::string where = MemberPointer(at.pointer, keyword);
    if (!value.is_number()) {
      return SchemaError(where, absl::StrCat("expected a number, got ", ExcerptOf(value)));
    }
    const double exact = value.get<double>();
    const double inner = sign > 0 ? std::ceil(exact) : std::floor(exact);
    const double most = static_cast<double>(integer ? int64_t{1} << 53 : kNumberBoundMax);
    if (inner != exact && !integer) {
      return SchemaError(where, absl::StrCat(ExcerptOf(value),
                                             " is no integer, which bounds of "
                                             "numbers that are none have to be"));
    }
    if (std::abs(exact) > most) {
      return SchemaError(where, absl::StrCat(ExcerptOf(value), " is beyond what bounds may be (",
                                             static_cast<int64_t>(most), ")"));
    }
    const bool excluded = std::string_view(keyword).substr(0, 9) == "exclusive" && inner == exact;
    const auto whole = static_cast<int64_t>(inner);
    if (sign * whole > sign * bound->value) {
      *bound = {whole, excluded};
    } else if (whole == bound->value) {
      bound->excluded |= excluded;
    }
    return absl::OkStatus();
  }

  SchemaDocument document_;
  Grammar* grammar_;
  JsonText json_;
  std::map<std::string, Grammar::Rule> refs_;  // by pointer
  std::vector<SchemaAt> pending_;              // rules of references that are not made yet
  int depth_ = 0;                              // of calls of Value
};

}  // namespace

absl::StatusOr<Grammar::Rule> AddJsonSchema(std::string_view schema, Grammar* grammar) {
  ASSIGN_OR_RETURN(Schema root, ParseOrderedJson(schema, "json_schema"));
  return SchemaCompiler(std::move(root), grammar).Run();
}

}  // namespace pregate
