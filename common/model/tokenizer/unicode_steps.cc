#include "common/model/tokenizer/unicode_steps.h"

#include <utf8proc.h>

#include <cstdlib>
#include <optional>

#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/letter_case.h"

namespace pregate {
namespace {

constexpr double kFormGrowth = 11;  // NFKC of U+FDFA; the other forms stay below

// The character at the beginning of a text, and its bytes.
struct CodePoint {
  utf8proc_int32_t value;
  size_t length;
};
CodePoint FirstCodePoint(std::string_view text) {
  CodePoint out = {0, 0};
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  out.length = static_cast<size_t>(
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &out.value));
  return out;
}

class FormStep final : public NormalizerStep {
 public:
  explicit FormStep(int options) : options_(options) {}

  std::string Apply(std::string_view text) const override {
    utf8proc_uint8_t* normal = nullptr;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    const utf8proc_ssize_t size =
        utf8proc_map(bytes, static_cast<utf8proc_ssize_t>(text.size()), &normal,
                     static_cast<utf8proc_option_t>(options_ | UTF8PROC_STABLE));
    PREGATE_CHECK(size >= 0, "utf8proc: ", utf8proc_errmsg(size));
    std::string out(reinterpret_cast<const char*>(normal), static_cast<size_t>(size));
    std::free(normal);
    return out;
  }
  double growth() const override { return kFormGrowth; }

 private:
  const int options_;
};

class LowercaseStep final : public NormalizerStep {
 public:
  std::string Apply(std::string_view text) const override { return ToLower(text); }
  double growth() const override { return 1.5; }
};

class StripAccentsStep final : public NormalizerStep {
 public:
  std::string Apply(std::string_view text) const override {
    std::string out;
    while (!text.empty()) {
      const CodePoint at = FirstCodePoint(text);
      const utf8proc_category_t category = utf8proc_category(at.value);
      const bool is_mark = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                           category == UTF8PROC_CATEGORY_ME;
      if (!is_mark) out.append(text.substr(0, at.length));
      text.remove_prefix(at.length);
    }
    return out;
  }
  double growth() const override { return 1; }
};

bool IsSpaceCodePoint(utf8proc_int32_t value) {
  if ((value >= 0x9 && value <= 0xD) || value == 0x85) return true;
  const utf8proc_category_t category = utf8proc_category(value);
  return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

class StripStep final : public NormalizerStep {
 public:
  StripStep(bool left, bool right) : left_(left), right_(right) {}

  std::string Apply(std::string_view text) const override {
    size_t begin = text.size(), end = 0;  // of what is no white space
    for (size_t pos = 0; pos < text.size();) {
      const CodePoint at = FirstCodePoint(text.substr(pos));
      if (!IsSpaceCodePoint(at.value)) {
        begin = std::min(begin, pos);
        end = pos + at.length;
      }
      pos += at.length;
    }
    if (begin >= end) return left_ || right_ ? "" : std::string(text);
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    return std::string(text.substr(begin, end - begin));
  }
  double growth() const override { return 1; }

 private:
  const bool left_, right_;
};

std::optional<int> FormOptions(const std::string& type) {
  if (type == "NFC") return UTF8PROC_COMPOSE;
  if (type == "NFD") return UTF8PROC_DECOMPOSE;
  if (type == "NFKC") return UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
  if (type == "NFKD") return UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const NormalizerStep>> MakeUnicodeStep(const JsonStep& step) {
  if (step.type == "Strip") {
    RETURN_IF_ERROR(CheckKeys(step.object, {"type", "strip_left", "strip_right"}));
    ASSIGN_OR_RETURN(const bool left, step.object.Bool("strip_left"));
    ASSIGN_OR_RETURN(const bool right, step.object.Bool("strip_right"));
    return std::make_unique<StripStep>(left, right);
  }
  const std::optional<int> form = FormOptions(step.type);
  if (!form && step.type != "Lowercase" && step.type != "StripAccents") return UnknownStep(step);
  RETURN_IF_ERROR(CheckKeys(step.object, {"type"}));
  if (form) return std::make_unique<FormStep>(*form);
  if (step.type == "Lowercase") return std::make_unique<LowercaseStep>();
  return std::make_unique<StripAccentsStep>();
}

}  // namespace pregate
