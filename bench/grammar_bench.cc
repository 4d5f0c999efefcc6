// Times constrained text at a real vocabulary: compiling a schema, and a token's mask and step along
// a text that the schema allows, the first time (masks are computed on the way) and later ones.
// Prints one JSON object with --json, else a table.
// usage: grammar_bench --tokenizer DIR [--rounds 200] [--json on]
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/bench_main.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/grammar/constraint.h"

namespace pregate {
namespace {

struct Options {
  std::string tokenizer, json = "off";
  int32_t rounds = 200;
};

struct Case {
  const char* name;
  Constraint constraint;
  const char* text;
};

std::vector<Case> Cases() {
  return {
      {"person", JsonSchemaConstraint{R"({"type": "object", "properties": {
           "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
           "email": {"type": "string", "format": "email"},
           "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
           "role": {"enum": ["admin", "user", "guest"]},
           "address": {"type": "object", "properties": {"street": {"type": "string"},
               "city": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
               "required": ["street", "city"]}},
           "required": ["name", "age", "role"]})"},
       R"({
  "name": "Ada Lovelace", "age": 36, "email": "ada@example.org",
  "tags": ["mathematics", "poetical science"], "role": "admin",
  "address": {"street": "12 St James's Square", "city": "London", "zip": "01234"}
})"},
      {"tree", JsonSchemaConstraint{R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object",
           "properties": {"value": {"type": "string"},
                          "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
           "required": ["value", "children"]}}})"},
       R"({"value": "root", "children": [{"value": "left side of it", "children": [
 {"value": "a leaf", "children": []}]}, {"value": "right", "children": []}]})"},
      {"counted", JsonSchemaConstraint{R"({"type": "object", "properties": {
           "summary": {"type": "string", "maxLength": 400}}, "required": ["summary"]})"},
       R"({"summary": "A mixture of experts is a model whose layers hold several networks, of )"
       R"(which each token takes few; here one small router names them before anything runs."})"},
      {"json_object", JsonObjectConstraint{},
       R"({"title": "Any object", "list": [1, 2.5, true, null, {"deep": {"deeper": "text \n"}}]})"},
      {"regex", RegexConstraint{"[A-Z][a-z]+ [A-Z][a-z]+, (19|20)\\d{2}-\\d{2}-\\d{2}: .{0,80}"},
       "Ada Lovelace, 1943-10-18: The engine weaves algebraic patterns."},
      {"choice", ChoiceConstraint{{"positive", "negative", "neutral"}}, "negative"},
  };
}

struct Times {
  std::vector<double> us;
  double Quantile(double q) {
    std::sort(us.begin(), us.end());
    return us.empty() ? 0 : us[static_cast<size_t>(q * static_cast<double>(us.size() - 1))];
  }
};

// One text, token by token.
absl::Status Follow(const Tokenizer& tokenizer, const std::vector<TokenId>& tokens, Matcher matcher,
                    Times* times) {
  SystemClock clock;
  std::vector<uint32_t> mask(matcher.trie().mask_words());
  std::string text;
  for (const TokenId token : tokens) {
    const absl::Time begin = clock.Now();
    matcher.FillMask(absl::MakeSpan(mask));
    const bool allowed = mask[token / 32] >> (token % 32) & 1;
    if (!allowed || !matcher.Advance(tokenizer.TokenBytes(token))) {
      return absl::InternalError(absl::StrCat("token ", token, " is not allowed behind ", text));
    }
    times->us.push_back(absl::ToDoubleMicroseconds(clock.Now() - begin));
    text += tokenizer.TokenBytes(token);
  }
  return matcher.CanEnd() ? absl::OkStatus() : absl::InternalError("the text is not complete");
}

absl::StatusOr<nlohmann::json> Measure(const Case& c, const Tokenizer& tokenizer,
                                       const std::shared_ptr<const TokenTrie>& trie, int rounds) {
  SystemClock clock;
  const std::vector<TokenId> tokens = tokenizer.Encode(c.text);
  Times compile, first, later;
  std::shared_ptr<CompiledGrammar> grammar;
  for (int i = 0; i < std::min(rounds, 10); ++i) {
    const absl::Time begin = clock.Now();
    ASSIGN_OR_RETURN(grammar, CompileConstraint(c.constraint, trie));
    compile.us.push_back(absl::ToDoubleMicroseconds(clock.Now() - begin));
    RETURN_IF_ERROR(Follow(tokenizer, tokens, Matcher(grammar), &first));
  }
  for (int i = 0; i < rounds; ++i) {
    RETURN_IF_ERROR(Follow(tokenizer, tokens, Matcher(grammar), &later));
  }
  return nlohmann::json{{"case", c.name},
                        {"tokens", tokens.size()},
                        {"states", grammar->automaton.num_states()},
                        {"masks_kib", grammar->masks.bytes() / 1024},
                        {"compile_ms_median", compile.Quantile(0.5) / 1e3},
                        {"first_us_median", first.Quantile(0.5)},
                        {"first_us_p99", first.Quantile(0.99)},
                        {"later_us_median", later.Quantile(0.5)},
                        {"later_us_p99", later.Quantile(0.99)}};
}

absl::Status Bench(const Options& o) {
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(o.tokenizer));
  SystemClock clock;
  const absl::Time begin = clock.Now();
  const auto trie = std::make_shared<TokenTrie>(*tokenizer, tokenizer->vocab_size());
  const double trie_ms = absl::ToDoubleMilliseconds(clock.Now() - begin);
  nlohmann::json report = {{"vocabulary", trie->vocab_size()},
                           {"trie_nodes", trie->num_nodes()},
                           {"trie_ms", trie_ms},
                           {"single_bytes", trie->alphabet().count()},
                           {"rounds", o.rounds}};
  for (const Case& c : Cases()) {
    ASSIGN_OR_RETURN(nlohmann::json result, Measure(c, *tokenizer, trie, o.rounds));
    report["cases"].push_back(std::move(result));
  }
  if (o.json == "on") {
    std::printf("%s\n", report.dump(1).c_str());
    return absl::OkStatus();
  }
  std::printf("%d tokens, %d nodes of the trie (%.1f ms), %zu single bytes\n", trie->vocab_size(),
              trie->num_nodes(), trie_ms, trie->alphabet().count());
  std::printf(
      "case         tokens states masks KiB compile ms  first us: median p99  later: median p99\n");
  for (const nlohmann::json& c : report["cases"]) {
    std::printf("%-12s %6d %6d %9d %10.2f %17.1f %7.1f %12.1f %5.1f\n",
                std::string(c["case"]).c_str(), int{c["tokens"]}, int{c["states"]},
                int{c["masks_kib"]}, double{c["compile_ms_median"]}, double{c["first_us_median"]},
                double{c["first_us_p99"]}, double{c["later_us_median"]}, double{c["later_us_p99"]});
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace pregate

int main(int argc, char** argv) {
  pregate::Options o;
  pregate::OptionSet set("grammar_bench", "Times the masks of constrained text.");
  set.String("tokenizer", &o.tokenizer, "folder with a tokenizer's files");
  set.Int("rounds", &o.rounds, 1, 1000000, "", "texts of each case");
  set.Choice("json", &o.json, {"on", "off"}, "print one JSON object instead of a table");
  return pregate::BenchMain("grammar_bench", set, argc, argv, [&] { return pregate::Bench(o); });
}
