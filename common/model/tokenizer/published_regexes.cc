#include "common/model/tokenizer/published_regexes.h"

#include <algorithm>
#include <iterator>

#include "common/base/status.h"

namespace pregate {
namespace {

// Llama-3, SmolLM3; Qwen 2 to 3 and their distillates take digits one by one.
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Mistral Nemo; GPT-4o and Phi-4-mini. A word ends where small letters turn into capital ones.
#define UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define ENDING R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
#define SIGN R"([^\r\n\p{L}\p{N}]?)"
#define TAIL R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
constexpr const char* kTekken = SIGN UPPER "*" LOWER "+|" SIGN UPPER "+" LOWER R"(*|\p{N})" TAIL;
constexpr const char* kGpt4o =
    SIGN UPPER "*" LOWER "+" ENDING "|" SIGN UPPER "+" LOWER "*" ENDING R"(|\p{N}{1,3})" TAIL;
#undef TAIL
#undef SIGN
#undef ENDING
#undef LOWER
#undef UPPER

constexpr const char* kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr const char* kDeepSeekSigns = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr const char* kDeepSeekHan = "[一-龥ࠀ-一가-퟿]+";
constexpr const char* kLineEnds = "[\r\n]";
constexpr const char* kFinalSpace = R"(\s+$)";  // steps back for every start: not for PCRE2

// The names of an alternative without digits apart are tried first by readers of tokenizer.json.
const std::vector<NamedPreTokenizer>& Names() {
  static const auto& names = *new std::vector<NamedPreTokenizer>{
      {"smollm",
       {"refact", "starcoder", "command-r", "codeshell", "exaone", "minerva-7b"},
       {kGpt2Regex},
       /*digits_apart=*/true},
      {"gpt2",
       {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "a.x-4.0", "mellum",
        "exaone4", "granite-docling"},
       {kGpt2Regex}},
      {"llama-bpe",
       {"llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "smaug-bpe",
        "dbrx", "glm4", "chatglm-bpe"},
       {kLlama3}},
      {"qwen2",
       {"deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "grok-2"},
       {kQwen2}},
      {"tekken", {}, {kTekken}},
      {"gpt-4o", {"llama4", "minimax-m2"}, {kGpt4o}},
      {"deepseek-v3",
       {"hunyuan-dense"},
       {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", kDeepSeekV3}},
      {"deepseek-coder", {}, {kLineEnds, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekHan, R"(\p{N})"}},
      {"deepseek-llm",
       {},
       {kLineEnds, kDeepSeekLetters, kDeepSeekSigns, kFinalSpace, kDeepSeekHan, R"(\p{N}+)"}},
      {"default", {""}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Regex, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
  };
  return names;
}

// White space is Unicode's White_Space. PCRE2's \s has U+180E as well, so it is spelled out.
constexpr std::string_view kSpaces = R"(\t\n\x{0B}\f\r\x{85}\p{Z})";

// The same for PCRE2.
std::string Translated(std::string_view regex) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c != '\\') {
      if (c == '[' && !in_class) {
        in_class = true;
      } else if (c == ']') {
        in_class = false;
      }
      out.push_back(c);
      continue;
    }
    const char escaped = regex[++i];
    if (escaped == 's' && in_class) {
      out += kSpaces;
    } else if (escaped == 's' || escaped == 'S') {
      out.append(escaped == 's' ? "[" : "[^").append(kSpaces).append("]");
    } else {
      out.append({c, escaped});
    }
  }
  return out;
}

}  // namespace

const std::vector<NamedPreTokenizer>& NamedPreTokenizers() { return Names(); }

std::vector<std::string> PublishedRegexes() {
  std::vector<std::string> all;
  for (const NamedPreTokenizer& named : Names()) {
    for (const std::string_view regex : named.regexes) {
      if (std::find(all.begin(), all.end(), regex) == all.end()) all.emplace_back(regex);
    }
  }
  return all;
}

std::optional<std::string> OwnFormOf(const std::string& regex) {
  static const auto& all = *new std::vector<std::string>(PublishedRegexes());
  const bool own = regex != kFinalSpace && std::find(all.begin(), all.end(), regex) != all.end();
  return own ? std::optional(Translated(regex)) : std::nullopt;
}

absl::StatusOr<const NamedPreTokenizer*> FindNamedPreTokenizer(std::string_view name) {
  for (const NamedPreTokenizer& named : Names()) {
    const auto& aliases = named.aliases;
    const bool found =
        name == named.name || std::find(aliases.begin(), aliases.end(), name) != aliases.end();
    if (found) return &named;
  }
  return absl::UnimplementedError(
      absl::StrCat("pre_tokenizer \"", std::string(name.substr(0, 64)),
                   "\" is not known (docs/TOKENIZERS.md lists those that are)"));
}

bool MeansWholeWordsAndBos(std::string_view name) {
  constexpr std::string_view kNames[] = {"llama-bpe", "llama3",    "llama-v3",
                                         "falcon3",   "falcon-h1", "pixtral",
                                         "midm-2.0",  "lfm2",      "tekken"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace pregate
