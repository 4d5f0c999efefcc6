#include "common/grammar/regex_grammar.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/base/utf8.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

CodePointSet Digits() { return CodePointSet::Of('0', '9'); }

CodePointSet WordCharacters() {
  CodePointSet set = Digits();
  set.Add('a', 'z');
  set.Add('A', 'Z');
  set.Add('_', '_');
  return set;
}

CodePointSet AsciiSpaces() {
  CodePointSet set = CodePointSet::Of('\t', '\r');
  set.Add(' ', ' ');
  return set;
}

// All that any dialect takes for white space: what \S leaves out.
CodePointSet AllSpaces() {
  CodePointSet set = AsciiSpaces();
  for (const auto& [low, high] : std::vector<CodePointSet::Interval>{{0x1C, 0x1F},
                                                                     {0x85, 0x85},
                                                                     {0xA0, 0xA0},
                                                                     {0x1680, 0x1680},
                                                                     {0x2000, 0x200A},
                                                                     {0x2028, 0x2029},
                                                                     {0x202F, 0x202F},
                                                                     {0x205F, 0x205F},
                                                                     {0x3000, 0x3000},
                                                                     {0xFEFF, 0xFEFF}}) {
    set.Add(low, high);
  }
  return set;
}

CodePointSet AllButLineEnds() {
  CodePointSet ends = CodePointSet::Of('\n', '\n');
  ends.Add('\r', '\r');
  ends.Add(0x2028, 0x2029);
  return ends.Complement();
}

class RegexParser {
 public:
  RegexParser(std::string_view pattern, TextForm form, Grammar* grammar)
      : pattern_(pattern), form_(form), grammar_(grammar) {}

  absl::StatusOr<Expr> Parse(RegexAnchors anchors) {
    std::vector<Expr> choices;
    do {
      ASSIGN_OR_RETURN(const Expr choice, TopAlternative(anchors));
      choices.push_back(choice);
    } while (Take('|'));
    if (!AtEnd()) return Bad("unmatched ')'");
    return grammar_->Choice(std::move(choices));
  }

 private:
  bool AtEnd() const { return pos_ == pattern_.size(); }
  char Peek(size_t ahead = 0) const {
    return pos_ + ahead < pattern_.size() ? pattern_[pos_ + ahead] : '\0';
  }
  bool Take(char c) {
    if (AtEnd() || pattern_[pos_] != c) return false;
    ++pos_;
    return true;
  }
  bool Take(std::string_view text) {
    if (pattern_.substr(pos_, text.size()) != text) return false;
    pos_ += text.size();
    return true;
  }
  absl::Status Bad(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression: ", std::string(what), " at byte ", pos_));
  }

  // ^ and $ may stand at the ends of what is not in a group.
  absl::StatusOr<Expr> TopAlternative(RegexAnchors anchors) {
    const bool begins = Take('^');
    ASSIGN_OR_RETURN(Expr body, Alternative(0));
    const bool ends = Take('$');
    if (!AtEnd() && Peek() != '|' && Peek() != ')') return Bad("'$' before the end");
    if (anchors == RegexAnchors::kWhole) return body;
    const auto any = [&] {
      return grammar_->Repeat(CharacterOf(CodePointSet::All(), form_, grammar_), 0,
                              Grammar::kUnbounded);
    };
    return grammar_->Sequence(
        {begins ? grammar_->Empty() : any(), body, ends ? grammar_->Empty() : any()});
  }

  absl::StatusOr<Expr> Alternatives(int depth) {
    std::vector<Expr> choices;
    do {
      ASSIGN_OR_RETURN(const Expr choice, Alternative(depth));
      choices.push_back(choice);
    } while (Take('|'));
    return grammar_->Choice(std::move(choices));
  }

  absl::StatusOr<Expr> Alternative(int depth) {
    std::vector<Expr> parts;
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      if (Peek() == '$' && depth == 0) break;
      ASSIGN_OR_RETURN(const Expr atom, Atom(depth));
      ASSIGN_OR_RETURN(const Expr part, Quantified(atom));
      parts.push_back(part);
    }
    return grammar_->Sequence(std::move(parts));
  }

  absl::StatusOr<Expr> Atom(int depth) {
    switch (Peek()) {
      case '(':
        return Group(depth);
      case '[':
        return Class();
      case '.':
        ++pos_;
        return OneOf(AllButLineEnds());
      case '\\': {
        ASSIGN_OR_RETURN(const CodePointSet set, EscapedSet(/*in_class=*/false));
        return OneOf(set);
      }
      case '^':
      case '$':
        return Bad("an anchor inside is not supported");
      case '*':
      case '+':
      case '?':
      case '{':
        return Bad("nothing to repeat");
      default:
        return OneOf(One(TakeCharacter()));
    }
  }

  Expr OneOf(const CodePointSet& set) { return CharacterOf(set, form_, grammar_); }
  static CodePointSet One(uint32_t c) { return CodePointSet::Of(c, c); }

  uint32_t TakeCharacter() {
    const size_t length = NextUtf8(pattern_, pos_).length;
    const uint32_t c = DecodeUtf8(pattern_.substr(pos_, length))[0];
    pos_ += length;
    return c;
  }

  absl::StatusOr<Expr> Group(int depth) {
    if (depth >= kGrammarRegexDepthMax) {
      return Bad(absl::StrCat("groups nested deeper than ", kGrammarRegexDepthMax));
    }
    ++pos_;
    if (Take("?:")) {
    } else if (Peek() == '?') {
      if (Take("?=") || Take("?!") || Take("?<=") || Take("?<!")) {
        return Bad("looking ahead or behind is not supported");
      }
      if (!Take("?P<") && !Take("?<")) return Bad("this kind of group is not supported");
      while (absl::ascii_isalnum(static_cast<unsigned char>(Peek())) || Peek() == '_') ++pos_;
      if (!Take('>')) return Bad("expected '>' behind a group's name");
    }
    ASSIGN_OR_RETURN(const Expr inside, Alternatives(depth + 1));
    if (!Take(')')) return Bad("expected ')'");
    return inside;
  }

  absl::StatusOr<Expr> Quantified(Expr atom) {
    int64_t min = 1, max = 1;
    if (Take('*')) {
      min = 0, max = Grammar::kUnbounded;
    } else if (Take('+')) {
      max = Grammar::kUnbounded;
    } else if (Take('?')) {
      min = 0;
    } else if (Take('{')) {
      RETURN_IF_ERROR(Counts(&min, &max));
    } else {
      return atom;
    }
    Take('?');  // as few as possible: the same texts
    if (Peek() == '+') return Bad("a possessive quantifier is not supported");
    if (Peek() == '*' || Peek() == '?' || Peek() == '{') return Bad("nothing to repeat");
    return grammar_->Repeat(atom, min, max);
  }

  absl::Status Counts(int64_t* min, int64_t* max) {
    ASSIGN_OR_RETURN(*min, Count());
    *max = *min;
    if (Take(',')) {
      *max = Grammar::kUnbounded;
      if (Peek() != '}') {
        ASSIGN_OR_RETURN(*max, Count());
        if (*max < *min) return Bad("a repetition whose counts descend");
      }
    }
    return Take('}') ? absl::OkStatus() : Bad("expected '}' of a repetition");
  }

  absl::StatusOr<int64_t> Count() {
    int64_t count = 0;
    if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) {
      return Bad("expected a number of repetitions ('{' itself is \\{)");
    }
    while (absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) {
      count = count * 10 + (pattern_[pos_++] - '0');
      if (count > kGrammarRepeatsMax) {
        return Bad(absl::StrCat("more than ", kGrammarRepeatsMax, " repetitions"));
      }
    }
    return count;
  }

  absl::StatusOr<Expr> Class() {
    ++pos_;
    const bool negated = Take('^');
    CodePointSet set;
    while (!Take(']')) {
      if (AtEnd()) return Bad("expected ']'");
      if (Peek() == '[' && Peek(1) == ':') return Bad("[:name:] is not supported");
      ASSIGN_OR_RETURN(CodePointSet low, ClassMember());
      if (Peek() != '-' || Peek(1) == ']' || pos_ + 1 == pattern_.size()) {
        set.Add(low);
        continue;
      }
      ++pos_;
      ASSIGN_OR_RETURN(CodePointSet high, ClassMember());
      RETURN_IF_ERROR(AddRange(low, high, &set));
    }
    if (set.empty() && !negated) return Bad("a class without a character");
    return OneOf(negated ? set.Complement() : set);
  }

  absl::StatusOr<CodePointSet> ClassMember() {
    if (Peek() == '\\') return EscapedSet(/*in_class=*/true);
    return One(TakeCharacter());
  }

  absl::Status AddRange(const CodePointSet& low, const CodePointSet& high, CodePointSet* set) {
    const auto single = [](const CodePointSet& s) {
      return s.intervals().size() == 1 && s.intervals()[0].first == s.intervals()[0].second;
    };
    if (!single(low) || !single(high)) return Bad("a range between classes");
    const uint32_t first = low.intervals()[0].first, last = high.intervals()[0].first;
    if (last < first) return Bad("a range whose ends descend");
    set->Add(first, last);
    return absl::OkStatus();
  }

  absl::StatusOr<CodePointSet> EscapedSet(bool in_class) {
    ++pos_;
    if (AtEnd()) return Bad("'\\' at the end");
    const char c = pattern_[pos_++];
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return Digits().Complement();
      case 'w':
        return WordCharacters();
      case 'W':
        return WordCharacters().Complement();
      case 's':
        return AsciiSpaces();
      case 'S':
        return AllSpaces().Complement();
      case 'n':
        return One('\n');
      case 'r':
        return One('\r');
      case 't':
        return One('\t');
      case 'f':
        return One('\f');
      case 'v':
        return One('\v');
      case '0':
        if (!absl::ascii_isdigit(static_cast<unsigned char>(Peek()))) return One(0);
        break;
      case 'x':
        return Hex(2);
      case 'u':
        return Hex(4);
      case 'b':
        if (in_class) return One('\b');
        break;
      default:
        if (absl::ascii_ispunct(static_cast<unsigned char>(c))) {
          return One(static_cast<uint8_t>(c));
        }
    }
    --pos_;
    return Bad(absl::StrCat(
        "\\",
        absl::ascii_isgraph(static_cast<unsigned char>(c)) ? std::string(1, c) : std::string("..."),
        " is not supported"));
  }

  absl::StatusOr<CodePointSet> Hex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const auto c = static_cast<unsigned char>(Peek());
      if (!absl::ascii_isxdigit(c)) return Bad("expected a hexadecimal digit");
      value = value * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
      ++pos_;
    }
    if (value >= 0xD800 && value <= 0xDFFF) return Bad("a surrogate is no character");
    return One(value);
  }

  std::string_view pattern_;
  TextForm form_;
  Grammar* grammar_;
  size_t pos_ = 0;
};

}  // namespace

absl::StatusOr<Expr> ParseRegex(std::string_view pattern, RegexAnchors anchors, TextForm form,
                                Grammar* grammar) {
  if (pattern.size() > kGrammarRegexBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("regular expression: ", pattern.size(),
                                                   " bytes, at most ", kGrammarRegexBytesMax));
  }
  RETURN_IF_ERROR(CheckUtf8(pattern, "regular expression"));
  return RegexParser(pattern, form, grammar).Parse(anchors);
}

}  // namespace pregate
