#include "common/model/tokenizer/text_pattern.h"

#include <utility>

#include "common/model/tokenizer/pattern.h"
#include "common/model/tokenizer/published_regexes.h"
#include "common/model/tokenizer/regex.h"

namespace pregate {
namespace {

class Literal final : public TextPattern {
 public:
  explicit Literal(std::string literal) : literal_(std::move(literal)) {}

  void FindAll(std::string_view text, std::vector<TextMatch>* matches) const override {
    for (size_t pos = text.find(literal_); pos != std::string_view::npos;
         pos = text.find(literal_, pos + literal_.size())) {
      matches->push_back({pos, pos + literal_.size()});
    }
  }

 private:
  const std::string literal_;
};

class OwnPattern final : public TextPattern {
 public:
  explicit OwnPattern(const std::string& source) : pattern_(source.c_str()) {}

  void FindAll(std::string_view text, std::vector<TextMatch>* matches) const override {
    pattern_.FindAll(text, matches);
  }

 private:
  const Pattern pattern_;
};

}  // namespace

std::unique_ptr<TextPattern> MakeLiteral(std::string literal) {
  return std::make_unique<Literal>(std::move(literal));
}

std::unique_ptr<TextPattern> MakeOwnPattern(const char* source) {
  return std::make_unique<OwnPattern>(source);
}

absl::StatusOr<std::unique_ptr<TextPattern>> MakeRegexPattern(const std::string& source) {
  const std::optional<std::string> own = OwnFormOf(source);
  if (own) return std::make_unique<OwnPattern>(*own);
  return CompileRegex(source);
}

}  // namespace pregate
