#include "common/model/tokenizer/normalizer.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/json_steps.h"
#include "common/model/tokenizer/precompiled_step.h"
#include "common/model/tokenizer/unicode_steps.h"

namespace pregate {
namespace {

using NormalizerStepOr = absl::StatusOr<std::unique_ptr<const NormalizerStep>>;

class PrependStep final : public NormalizerStep {
 public:
  explicit PrependStep(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string Apply(std::string_view text) const override { return prefix_ + std::string(text); }
  double growth() const override { return 1; }

 private:
  const std::string prefix_;
};

class ReplaceStep final : public NormalizerStep {
 public:
  ReplaceStep(JsonPattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  std::string Apply(std::string_view text) const override {
    std::vector<TextMatch> matches;
    pattern_.pattern->FindAll(text, &matches);
    std::string out;
    size_t done = 0;
    for (const TextMatch& match : matches) {
      out.append(text.substr(done, match.begin - done)).append(content_);
      done = match.end;
    }
    return out.append(text.substr(done));
  }
  // An expression may match before each character, and nothing of it.
  double growth() const override {
    const auto size = static_cast<double>(content_.size());
    if (pattern_.literal.empty()) return size + 1;
    return std::max(1.0, size / static_cast<double>(pattern_.literal.size()));
  }

 private:
  const JsonPattern pattern_;
  const std::string content_;
};

absl::StatusOr<std::string> TextField(const JsonObject& step, const char* key) {
  ASSIGN_OR_RETURN(std::string text, step.String(key));
  if (text.size() <= kTokenTextBytesMax) return text;
  return absl::InvalidArgumentError(absl::StrCat(step.where(), ": ", key, " of ", text.size(),
                                                 " bytes, at most ", kTokenTextBytesMax));
}

NormalizerStepOr MakePrepend(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "prepend"}));
  ASSIGN_OR_RETURN(std::string prefix, TextField(step, "prepend"));
  return std::make_unique<PrependStep>(std::move(prefix));
}

NormalizerStepOr MakeReplace(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "content"}));
  ASSIGN_OR_RETURN(JsonPattern pattern, PatternOf(step));
  ASSIGN_OR_RETURN(std::string content, TextField(step, "content"));
  std::vector<TextMatch> matches;
  pattern.pattern->FindAll("", &matches);
  if (!matches.empty()) {
    return absl::UnimplementedError(
        absl::StrCat(step.where(), ": a pattern that matches an empty text is not supported"));
  }
  return std::make_unique<ReplaceStep>(std::move(pattern), std::move(content));
}

NormalizerStepOr MakeNormalizerStep(const JsonStep& step) {
  if (step.type == "Prepend") return MakePrepend(step.object);
  if (step.type == "Replace") return MakeReplace(step.object);
  if (step.type == "Precompiled") return MakePrecompiledStep(step.object);
  return MakeUnicodeStep(step);
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Make(const nlohmann::json& value, const std::string& where) {
  ASSIGN_OR_RETURN(const auto steps, StepsOf(value, where, "normalizers"));
  Normalizer out;
  double growth = 1;
  for (const JsonStep& step : steps) {
    ASSIGN_OR_RETURN(auto made, MakeNormalizerStep(step));
    growth *= made->growth();
    out.steps_.push_back(std::move(made));
  }
  if (growth <= static_cast<double>(kNormalizerGrowthMax)) return out;
  return absl::UnimplementedError(absl::StrCat(where, " may lengthen a text ", growth,
                                               " times, at most ", kNormalizerGrowthMax,
                                               " is supported"));
}

std::string Normalizer::Normalise(std::string_view text) const {
  std::string out(text);
  for (const auto& step : steps_) {
    if (!out.empty()) out = step->Apply(out);
  }
  return out;
}

}  // namespace pregate
