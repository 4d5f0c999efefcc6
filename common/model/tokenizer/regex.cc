#include "common/model/tokenizer/regex.h"

#include <oniguruma.h>

#include <algorithm>
#include <array>
#include <climits>

#include "absl/strings/escaping.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

const OnigUChar* Bytes(std::string_view text) {
  return reinterpret_cast<const OnigUChar*>(text.data());
}

std::string RegexExcerpt(const std::string& source) {
  return absl::StrCat("regular expression \"", absl::CHexEscape(source.substr(0, 64)),
                      source.size() > 64 ? "...\"" : "\"");
}

void InitialiseOnce() {
  static const bool done = [] {
    OnigEncoding utf8 = ONIG_ENCODING_UTF8;
    onig_initialize(&utf8, 1);
    onig_set_parse_depth_limit(kRegexDepthMax);
    return true;
  }();
  (void)done;
}

absl::Status CheckSource(const std::string& source) {
  if (source.size() > kRegexBytesMax || !IsUtf8(source)) {
    return absl::InvalidArgumentError(absl::StrCat(RegexExcerpt(source), " of ", source.size(),
                                                   " bytes: expected UTF-8 of at most ",
                                                   kRegexBytesMax));
  }
  constexpr std::string_view kEscapes = "123456789kgKXyY";
  constexpr std::array<std::string_view, 8> kGroups = {"(?~", "(?{", "(*",   "(?R",
                                                       "(?&", "(?(", "(?P=", "(?P>"};
  for (size_t i = 0; i < source.size(); ++i) {
    const std::string_view rest = std::string_view(source).substr(i);
    const bool escape = rest[0] == '\\' && rest.size() > 1;
    const bool refused = escape ? kEscapes.find(rest[1]) != std::string_view::npos
                                : std::any_of(kGroups.begin(), kGroups.end(),
                                              [&](auto group) { return rest.starts_with(group); });
    if (refused) {
      return absl::UnimplementedError(absl::StrCat(RegexExcerpt(source), ": \"",
                                                   std::string(rest.substr(0, escape ? 2 : 4)),
                                                   "\" at byte ", i, " is not supported"));
    }
    if (escape) ++i;
  }
  return absl::OkStatus();
}

class Regex final : public TextPattern {
 public:
  explicit Regex(regex_t* code) : code_(code) {}
  ~Regex() override { onig_free(code_); }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // An empty match directly behind another is none, as in the package's own library.
  void FindAll(std::string_view text, std::vector<TextMatch>* matches) const override {
    Search search(code_, text);
    size_t pos = 0, last_end = std::string_view::npos;
    while (pos <= text.size() && search.From(pos)) {
      const TextMatch match = search.match();
      const bool repeats = match.begin == match.end && match.end == last_end;
      if (!repeats) matches->push_back(match);
      if (!repeats) last_end = match.end;
      pos = match.end;
      if (repeats) pos += pos < text.size() ? NextUtf8(text, pos).length : 1;
    }
  }

 private:
  // One text's matches, which share the text's retries: steps back of the matcher.
  class Search {
   public:
    Search(regex_t* code, std::string_view text)
        : code_(code),
          text_(text),
          region_(onig_region_new()),
          param_(onig_new_match_param()),
          retries_left_(kRegexRetriesMin + kRegexRetriesPerByte * text.size()) {
      PREGATE_CHECK(region_ != nullptr && param_ != nullptr, "no memory for a match");
      onig_initialize_match_param(param_);
      onig_set_match_stack_limit_size_of_match_param(param_, kRegexStackMax);
      // That in a search is the lower one, and enough.
      onig_set_retry_limit_in_match_of_match_param(param_, ULONG_MAX);
    }
    ~Search() {
      onig_free_match_param(param_);
      onig_region_free(region_, 1);
    }
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;

    // What a search has cost is not to be had, so it is tried with more and more retries.
    bool From(size_t pos) {
      for (uint64_t limit = kFirstRetries; limit <= retries_left_; limit *= 4) {
        retries_left_ -= limit;
        const int rc = TryFrom(pos, limit);
        if (rc >= 0) return true;
        if (rc != ONIGERR_RETRY_LIMIT_IN_SEARCH_OVER) return false;
      }
      return false;
    }
    TextMatch match() const {
      return {static_cast<size_t>(region_->beg[0]), static_cast<size_t>(region_->end[0])};
    }

   private:
    static constexpr uint64_t kFirstRetries = 64;

    int TryFrom(size_t pos, uint64_t retries) {
      onig_set_retry_limit_in_search_of_match_param(param_, retries);
      const OnigUChar *begin = Bytes(text_), *end = begin + text_.size();
      return onig_search_with_param(code_, begin, end, begin + pos, end, region_, ONIG_OPTION_NONE,
                                    param_);
    }

    regex_t* const code_;
    const std::string_view text_;
    OnigRegion* const region_;
    OnigMatchParam* const param_;
    uint64_t retries_left_;
  };

  regex_t* const code_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TextPattern>> CompileRegex(const std::string& source) {
  InitialiseOnce();
  RETURN_IF_ERROR(CheckSource(source));
  regex_t* code = nullptr;
  OnigErrorInfo info = {};
  const OnigUChar* begin = Bytes(source);
  const int rc = onig_new(&code, begin, begin + source.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                          ONIG_SYNTAX_ONIGURUMA, &info);
  if (rc == ONIG_NORMAL) return std::make_unique<Regex>(code);
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int size = onig_error_code_to_str(message, rc, &info);
  return absl::InvalidArgumentError(
      absl::StrCat(RegexExcerpt(source), ": ",
                   std::string(reinterpret_cast<const char*>(message), static_cast<size_t>(size))));
}

}  // namespace pregate
