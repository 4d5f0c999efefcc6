#include "common/model/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/base/status.h"

namespace pregate {

class Pattern::Code {
 public:
  explicit Code(const char* source) {
    int error = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    PREGATE_CHECK(code_ != nullptr, "PCRE2 error ", error, " at ", offset, " of ", source);
    // Where there is no JIT, pcre2_match interprets.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
  }
  ~Code() { pcre2_code_free(code_); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  const pcre2_code* get() const { return code_; }

 private:
  pcre2_code* code_;
};

namespace {

// Finds matches of one pattern, one after another.
class Matcher {
 public:
  explicit Matcher(const pcre2_code* code)
      : code_(code),
        match_(pcre2_match_data_create_from_pattern(code, nullptr)),
        context_(pcre2_match_context_create(nullptr)) {
    pcre2_set_match_limit(context_, UINT32_MAX);  // our own expressions take linear time
  }
  ~Matcher() {
    pcre2_match_context_free(context_);
    pcre2_match_data_free(match_);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  bool Find(std::string_view text, size_t pos) {
    const int rc = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), pos,
                               PCRE2_NO_UTF_CHECK, match_, context_);
    PREGATE_CHECK(rc > 0 || rc == PCRE2_ERROR_NOMATCH, "PCRE2 error ", rc, " at byte ", pos);
    return rc > 0;
  }
  size_t begin() const { return pcre2_get_ovector_pointer(match_)[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(match_)[1]; }

 private:
  const pcre2_code* code_;
  pcre2_match_data* match_;
  pcre2_match_context* context_;
};

}  // namespace

Pattern::Pattern(const char* source) : code_(std::make_unique<Code>(source)) {}
Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;

void Pattern::FindAll(std::string_view text, std::vector<TextMatch>* matches) const {
  Matcher match(code_->get());
  for (size_t pos = 0; pos < text.size() && match.Find(text, pos); pos = match.end()) {
    matches->push_back({match.begin(), match.end()});
  }
}

bool Pattern::Matches(std::string_view text) const { return Matcher(code_->get()).Find(text, 0); }

}  // namespace pregate
