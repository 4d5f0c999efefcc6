#include "common/grammar/testing/random_schema.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

class SchemaMaker {
 public:
  explicit SchemaMaker(std::mt19937_64& random) : random_(random) {}

  Schema Make() {
    num_defs_ = Below(3);
    Schema root = Part(0);
    if (root.is_boolean()) root = Schema::object();
    for (int i = 0; i < num_defs_; ++i) root["$defs"][absl::StrCat("d", i)] = Def();
    return root;
  }

 private:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool Once(int n) { return Below(n) == 0; }

  // An object whose members may lead back to it, but need not.
  Schema Def() {
    Schema def = {{"type", "object"}};
    def["properties"]["value"] = Part(2);
    def["properties"]["next"] = {{"$ref", absl::StrCat("#/$defs/d", Below(num_defs_))}};
    if (Once(2)) def["required"] = {"value"};
    return def;
  }

  Schema Part(int depth) {
    if (depth < 3 && Once(3)) return Combined(depth);
    if (num_defs_ > 0 && Once(6)) return {{"$ref", absl::StrCat("#/$defs/d", Below(num_defs_))}};
    switch (Below(depth < 3 ? 8 : 5)) {
      case 0:
        return String();
      case 1:
        return Number();
      case 2:
        return Listed();
      case 3:
        return {{"type", Once(2) ? Schema("boolean") : Schema({"null", "string", "integer"})}};
      case 4:
        return Once(3) ? Schema(true) : Schema({{"type", "integer"}});
      case 5:
        return Array(depth);
      default:
        return Object(depth);
    }
  }

  Schema Combined(int depth) {
    Schema branches = Schema::array();
    switch (Below(3)) {
      case 0:
        return {{"allOf",
                 {{{"type", "object"}, {"properties", {{"a", Part(depth + 1)}}}},
                  {{"properties", {{"b", Part(depth + 1)}}}, {"required", {"b"}}}}}};
      case 1:
        return {{"type", "object"},
                {"properties", {{"kind", {{"enum", {"x", "y"}}}}}},
                {"anyOf",
                 {{{"required", {"kind"}}},
                  {{"properties", {{"kind", true}, {"more", Part(depth + 1)}}}}}}};
      default:
        for (int n = 1 + Below(3); n > 0; --n) branches.push_back(Part(depth + 1));
        return {{Once(2) ? "anyOf" : "oneOf", branches}};
    }
  }

  Schema String() {
    static constexpr const char* kPatterns[] = {"^[a-z]{2,5}$",    "^(foo|bar)+$", "b",
                                                "^\\d{3}-\\d{4}$", "a.?c$",        "^\\w+( \\w+)*$",
                                                "\"\\\\",          "^[\\n\\t\"]*x"};
    Schema schema = {{"type", "string"}};
    switch (Below(5)) {
      case 0:
        schema["pattern"] = kPatterns[Below(std::size(kPatterns))];
        break;
      case 1:
        schema["format"] = Once(2) ? "date-time" : "uuid";
        break;
      case 2:
        schema["minLength"] = Below(4);
        if (Once(2)) schema["maxLength"] = 4 + Below(6);
        break;
      default:
        break;
    }
    return schema;
  }

  Schema Number() {
    const bool integer = Once(2);
    Schema schema = {{"type", integer ? "integer" : "number"}};
    const int low = Below(3000) - 1500;
    if (Once(2)) schema[Once(2) ? "minimum" : "exclusiveMinimum"] = low;
    if (Once(2)) schema[Once(2) ? "maximum" : "exclusiveMaximum"] = low + 2 + Below(1200);
    return schema;
  }

  Schema Listed() {
    Schema values = {
        "a", "b\"\n", 1, -2.5, nullptr, true, Schema::array({1, "x"}), {{"k", "v"}, {"a", 1}}};
    std::shuffle(values.begin(), values.end(), random_);
    if (Once(3)) return {{"const", values[0]}};
    Schema some = Schema::array();
    for (int i = 0; i <= Below(4); ++i) some.push_back(values[static_cast<size_t>(i)]);
    return {{"enum", some}};
  }

  Schema Array(int depth) {
    Schema schema = {{"type", "array"}};
    const int low = Below(3);
    if (Once(2)) schema["minItems"] = low;
    if (Once(2)) schema["maxItems"] = low + Below(4);
    if (Once(3)) {
      for (int n = 1 + Below(2); n > 0; --n) schema["prefixItems"].push_back(Part(depth + 1));
    }
    if (!Once(4)) schema["items"] = Part(depth + 1);
    return schema;
  }

  Schema Object(int depth) {
    static constexpr const char* kNames[] = {"a", "ab", "name", "x y", "\"q\"", "\xC3\xA9"};
    Schema schema = {{"type", "object"}};
    for (const char* name : kNames) {
      if (Below(5) < 2) schema["properties"][name] = Part(depth + 1);
      if (schema["properties"].contains(name) && Once(2)) schema["required"].push_back(name);
    }
    if (schema["properties"].is_null()) schema.erase("properties");
    if (Once(3)) schema["additionalProperties"] = Once(2) ? Part(depth + 1) : Schema(Once(2));
    return schema;
  }

  std::mt19937_64& random_;
  int num_defs_ = 0;
};

}  // namespace

Schema RandomSchema(std::mt19937_64& random) { return SchemaMaker(random).Make(); }

std::vector<std::string> RandomVocabulary(std::mt19937_64& random, int num_pieces) {
  static const std::vector<std::string> kPieces = {
      "\"",   "{\"",   "\":",  "\": ",     "\",",      "\"}",      "}}",   "]}",
      "],",   ", \"",  ",\n",  "\n  ",     "    ",     "true",     "null", "name",
      "kind", "value", "next", "a",        "\\u",      "\\\"",     "00",   "12",
      "-",    "e1",    ".5",   "\xC3\xA9", "\xE2\x82", "\xF0\x9F", "foo",  "bar"};
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), kPieces.begin(), kPieces.end());
  while (static_cast<int>(tokens.size()) < num_pieces) {
    tokens.push_back(kPieces[random() % kPieces.size()] + tokens[random() % tokens.size()]);
  }
  tokens.push_back("");
  return tokens;
}

RandomText WalkRandomly(Matcher matcher, const std::vector<std::string>& vocabulary, int tokens_max,
                        std::mt19937_64& random) {
  RandomText out;
  std::vector<uint32_t> mask(matcher.trie().mask_words());
  for (int i = 0; i < tokens_max; ++i) {
    matcher.FillMask(absl::MakeSpan(mask));
    std::vector<size_t> allowed, closing;
    for (size_t id = 0; id < vocabulary.size(); ++id) {
      if ((mask[id / 32] >> (id % 32) & 1) == 0) continue;
      allowed.push_back(id);
      const std::string& text = vocabulary[id];
      if (text.empty() || text == "\"" || text == "}" || text == "]") closing.push_back(id);
    }
    PREGATE_CHECK(!allowed.empty(), "nothing may follow ", out.text);
    const bool close = !closing.empty() && (i > tokens_max / 2 || random() % 4 == 0);
    const std::vector<size_t>& from = close ? closing : allowed;
    const std::string& token = vocabulary[from[random() % from.size()]];
    if (token.empty()) {
      out.ended = true;
      return out;
    }
    PREGATE_CHECK(matcher.Advance(token), "the mask allowed what the text refuses");
    out.text += token;
  }
  return out;
}

}  // namespace pregate
