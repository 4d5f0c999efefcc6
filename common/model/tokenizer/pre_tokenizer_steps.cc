#include "common/model/tokenizer/pre_tokenizer_steps.h"

#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/published_regexes.h"
#include "common/model/tokenizer/splitting.h"

namespace pregate {
namespace {

using StepOr = absl::StatusOr<std::unique_ptr<const PreTokenizerStep>>;

// Kinds of characters as Rust's standard library and its `regex` crate have them.
constexpr const char* kNumeric = "\\p{N}";
constexpr const char* kNumericRun = "\\p{N}++";
constexpr const char* kSpace = "[\\t\\n\\x{0B}\\f\\r\\x{85}\\p{Z}]";
constexpr const char* kPunctuation = "[\\p{P}$+<=>^`|~]";
constexpr const char* kWordOrSigns =
    "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]++"
    "|[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}\\t\\n\\x{0B}\\f\\r\\x{85}\\p{Z}]++";

void AppendParts(const Words::Word& word, const std::vector<std::string_view>& parts, Words* out) {
  for (const std::string_view part : parts) {
    out->words.push_back({part, word.begins_text && part.data() == word.text.data()});
  }
}

// Split, Digits, Punctuation, Whitespace, WhitespaceSplit.
class SplitStep final : public PreTokenizerStep {
 public:
  SplitStep(std::unique_ptr<TextPattern> pattern, SplitBehavior behavior, bool invert = false)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void Apply(const Words::Word& word, Words* out) const override {
    std::vector<std::string_view> parts;
    SplitText(word.text, *pattern_, behavior_, invert_, &parts);
    AppendParts(word, parts, out);
  }

 private:
  const std::unique_ptr<TextPattern> pattern_;
  const SplitBehavior behavior_;
  const bool invert_;
};

class ByteLevelStep final : public PreTokenizerStep {
 public:
  ByteLevelStep(bool add_prefix_space, std::unique_ptr<TextPattern> pattern)
      : add_prefix_space_(add_prefix_space), pattern_(std::move(pattern)) {}

  void Apply(const Words::Word& word, Words* out) const override {
    Words::Word spaced = word;
    if (add_prefix_space_ && !word.text.starts_with(' ')) {
      out->changed.push_back(" " + std::string(word.text));
      spaced.text = out->changed.back();
    }
    std::vector<std::string_view> parts = {spaced.text};
    if (pattern_) {
      parts.clear();
      SplitText(spaced.text, *pattern_, SplitBehavior::kIsolated, false, &parts);
    }
    AppendParts(spaced, parts, out);
  }

 private:
  const bool add_prefix_space_;
  const std::unique_ptr<TextPattern> pattern_;  // none: words stay whole
};

enum class PrependScheme { kAlways, kFirst, kNever };

class MetaspaceStep final : public PreTokenizerStep {
 public:
  MetaspaceStep(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)),
        scheme_(scheme),
        pattern_(split ? MakeLiteral(replacement_) : nullptr) {}

  void Apply(const Words::Word& word, Words* out) const override {
    std::string text = absl::StrReplaceAll(absl::string_view(word.text.data(), word.text.size()),
                                           {{" ", replacement_}});
    const bool prepends =
        scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && word.begins_text);
    if (prepends && !text.starts_with(replacement_)) text.insert(0, replacement_);
    out->changed.push_back(std::move(text));
    const Words::Word spelled = {out->changed.back(), word.begins_text};
    std::vector<std::string_view> parts = {spelled.text};
    if (pattern_) {
      parts.clear();
      SplitText(spelled.text, *pattern_, SplitBehavior::kMergedWithNext, false, &parts);
    }
    AppendParts(spelled, parts, out);
  }

 private:
  const std::string replacement_;
  const PrependScheme scheme_;
  const std::unique_ptr<TextPattern> pattern_;
};

StepOr MakeSplit(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "behavior", "invert"}));
  ASSIGN_OR_RETURN(JsonPattern pattern, PatternOf(step));
  ASSIGN_OR_RETURN(const std::string name, step.String("behavior"));
  const auto behavior = ParseSplitBehavior(name);
  if (!behavior.ok()) return AtPlace(step.where(), behavior.status());
  ASSIGN_OR_RETURN(const bool invert, step.Bool("invert", false));
  return std::make_unique<SplitStep>(std::move(pattern.pattern), *behavior, invert);
}

StepOr MakeDigits(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "individual_digits"}));
  ASSIGN_OR_RETURN(const bool individual, step.Bool("individual_digits", false));
  return std::make_unique<SplitStep>(MakeOwnPattern(individual ? kNumeric : kNumericRun),
                                     SplitBehavior::kIsolated);
}

StepOr MakePunctuation(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "behavior"}));
  ASSIGN_OR_RETURN(const std::string name, step.String("behavior", "Isolated"));
  const auto behavior = ParseSplitBehavior(name);
  if (!behavior.ok()) return AtPlace(step.where(), behavior.status());
  return std::make_unique<SplitStep>(MakeOwnPattern(kPunctuation), *behavior);
}

// trim_offsets says where words stand in the text, which nobody asks here.
StepOr MakeByteLevel(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ASSIGN_OR_RETURN(const bool add_prefix_space, step.Bool("add_prefix_space", true));
  ASSIGN_OR_RETURN(const bool use_regex, step.Bool("use_regex", true));
  std::unique_ptr<TextPattern> pattern;
  if (use_regex) {
    ASSIGN_OR_RETURN(pattern, MakeRegexPattern(std::string(kGpt2Regex)));
  }
  return std::make_unique<ByteLevelStep>(add_prefix_space, std::move(pattern));
}

absl::StatusOr<PrependScheme> SchemeOf(const JsonObject& step) {
  ASSIGN_OR_RETURN(const std::string name, step.String("prepend_scheme", "always"));
  ASSIGN_OR_RETURN(const bool prepends, step.Bool("add_prefix_space", true));
  if (name == "never" || !prepends) return PrependScheme::kNever;
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  return absl::UnimplementedError(
      absl::StrCat(step.where(), ": prepend_scheme \"", name.substr(0, 64), "\" is not known"));
}

StepOr MakeMetaspace(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(
      step, {"type", "replacement", "str_rep", "prepend_scheme", "add_prefix_space", "split"}));
  ASSIGN_OR_RETURN(std::string replacement, step.String("replacement"));
  if (replacement.empty() || NextUtf8(replacement, 0).length != replacement.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(step.where(), ": replacement is not one character"));
  }
  ASSIGN_OR_RETURN(const PrependScheme scheme, SchemeOf(step));
  ASSIGN_OR_RETURN(const bool split, step.Bool("split", true));
  return std::make_unique<MetaspaceStep>(std::move(replacement), scheme, split);
}

}  // namespace

StepOr MakePreTokenizerStep(const JsonStep& step) {
  if (step.type == "Split") return MakeSplit(step.object);
  if (step.type == "Digits") return MakeDigits(step.object);
  if (step.type == "Punctuation") return MakePunctuation(step.object);
  if (step.type == "ByteLevel") return MakeByteLevel(step.object);
  if (step.type == "Metaspace") return MakeMetaspace(step.object);
  const bool whole_words = step.type == "Whitespace";
  if (!whole_words && step.type != "WhitespaceSplit") return UnknownStep(step);
  RETURN_IF_ERROR(CheckKeys(step.object, {"type"}));
  return std::make_unique<SplitStep>(MakeOwnPattern(whole_words ? kWordOrSigns : kSpace),
                                     SplitBehavior::kRemoved, /*invert=*/whole_words);
}

}  // namespace pregate
