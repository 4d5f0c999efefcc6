#include "common/model/tokenizer/splitting.h"

#include <algorithm>
#include <string>

#include "common/base/status.h"

namespace pregate {
namespace {

struct Span {
  size_t begin, end;
  bool is_match;
};

// The whole text: matches and what lies between them.
std::vector<Span> SpansOf(std::string_view text, const TextPattern& pattern, bool invert) {
  std::vector<TextMatch> matches;
  pattern.FindAll(text, &matches);
  std::vector<Span> spans;
  spans.reserve(2 * matches.size() + 1);
  size_t done = 0;
  for (const TextMatch& match : matches) {
    if (done < match.begin) spans.push_back({done, match.begin, invert});
    spans.push_back({match.begin, match.end, !invert});
    done = match.end;
  }
  if (done < text.size()) spans.push_back({done, text.size(), invert});
  return spans;
}

// Whether a span belongs to the part that the span before it began.
bool JoinsPrevious(SplitBehavior behavior, const Span& span, const Span& previous) {
  switch (behavior) {
    case SplitBehavior::kMergedWithPrevious:
      return span.is_match && !previous.is_match;
    case SplitBehavior::kContiguous:
      return span.is_match == previous.is_match;
    case SplitBehavior::kMergedWithNext:
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      break;
  }
  return false;
}

std::vector<Span> Joined(SplitBehavior behavior, const std::vector<Span>& spans) {
  std::vector<Span> out;
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0 && JoinsPrevious(behavior, spans[i], spans[i - 1])) {
      out.back().end = spans[i].end;
    } else {
      out.push_back(spans[i]);
    }
  }
  return out;
}

// The same from the right.
std::vector<Span> JoinedWithNext(const std::vector<Span>& spans) {
  std::vector<Span> out;
  for (size_t i = spans.size(); i-- > 0;) {
    const bool joins = i + 1 < spans.size() && spans[i].is_match && !spans[i + 1].is_match;
    if (joins) {
      out.back().begin = spans[i].begin;
    } else {
      out.push_back(spans[i]);
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

void AppendIsolated(std::string_view text, const TextPattern& pattern,
                    std::vector<std::string_view>* parts) {
  std::vector<TextMatch> matches;
  pattern.FindAll(text, &matches);
  size_t done = 0;
  for (const TextMatch& match : matches) {
    if (done < match.begin) parts->push_back(text.substr(done, match.begin - done));
    if (match.begin < match.end)
      parts->push_back(text.substr(match.begin, match.end - match.begin));
    done = match.end;
  }
  if (done < text.size()) parts->push_back(text.substr(done));
}

}  // namespace

absl::StatusOr<SplitBehavior> ParseSplitBehavior(std::string_view name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::UnimplementedError(
      absl::StrCat("behavior \"", std::string(name.substr(0, 64)), "\" is not known"));
}

void SplitText(std::string_view text, const TextPattern& pattern, SplitBehavior behavior,
               bool invert, std::vector<std::string_view>* parts) {
  if (behavior == SplitBehavior::kIsolated) return AppendIsolated(text, pattern, parts);
  std::vector<Span> spans = SpansOf(text, pattern, invert);
  spans =
      behavior == SplitBehavior::kMergedWithNext ? JoinedWithNext(spans) : Joined(behavior, spans);
  for (const Span& span : spans) {
    const bool removed = behavior == SplitBehavior::kRemoved && span.is_match;
    if (!removed && span.begin < span.end) {
      parts->push_back(text.substr(span.begin, span.end - span.begin));
    }
  }
}

}  // namespace pregate
