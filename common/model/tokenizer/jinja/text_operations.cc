#include "common/model/tokenizer/jinja/text_operations.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "common/model/tokenizer/jinja/characters.h"
#include "common/model/tokenizer/jinja/value.h"
#include "common/model/tokenizer/letter_case.h"

namespace pregate::jinja {
namespace {

constexpr size_t kNowhere = std::string_view::npos;

// memmem takes time in proportion to both lengths, whatever they hold; string_view's does not.
size_t FindBytes(std::string_view text, std::string_view part, size_t from) {
  const void* at = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return at == nullptr ? kNowhere : static_cast<const char*>(at) - text.data();
}

bool IsOneOf(std::string_view characters, std::string_view text, size_t pos) {
  const std::string_view character = text.substr(pos, CharacterBytes(text, pos));
  for (size_t at = 0; at < characters.size(); at += CharacterBytes(characters, at)) {
    if (characters.substr(at).starts_with(character)) return true;
  }
  return false;
}

size_t LastCharacter(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

struct Stretch {
  size_t begin, end;
};

std::vector<MarkedText> PartsOf(const MarkedText& text, const std::vector<Stretch>& ranges) {
  std::vector<MarkedText> parts;
  for (const Stretch& range : ranges)
    parts.push_back(text.Part(range.begin, range.end - range.begin));
  return parts;
}

// Words from the left; what is left after the last cut keeps its inner white space.
std::vector<Stretch> WordsFromLeft(std::string_view text, int64_t splits) {
  std::vector<Stretch> words;
  size_t pos = LeadingSpaceBytes(text);
  while (pos < text.size()) {
    size_t end = pos;
    if (splits >= 0 && static_cast<int64_t>(words.size()) == splits) {
      end = text.size() - TrailingSpaceBytes(text);
    } else {
      while (end < text.size() && !IsSpace(CodePointAt(text, end)))
        end += CharacterBytes(text, end);
    }
    words.push_back({pos, end});
    pos = end + LeadingSpaceBytes(text.substr(end));
  }
  return words;
}

std::vector<Stretch> WordsFromRight(std::string_view text, int64_t splits) {
  std::vector<Stretch> words;
  size_t end = text.size() - TrailingSpaceBytes(text);
  while (end > 0) {
    size_t begin = end;
    if (splits >= 0 && static_cast<int64_t>(words.size()) == splits) {
      begin = LeadingSpaceBytes(text);
    } else {
      while (begin > 0) {
        const size_t last = LastCharacter(text.substr(0, begin));
        if (IsSpace(CodePointAt(text, last))) break;
        begin = last;
      }
    }
    words.push_back({begin, end});
    end = begin - TrailingSpaceBytes(text.substr(0, begin));
  }
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<Stretch> PiecesFromLeft(std::string_view text, std::string_view separator,
                                    int64_t splits) {
  std::vector<Stretch> pieces;
  size_t pos = 0;
  while (splits < 0 || static_cast<int64_t>(pieces.size()) < splits) {
    const size_t at = FindBytes(text, separator, pos);
    if (at == kNowhere) break;
    pieces.push_back({pos, at});
    pos = at + separator.size();
  }
  pieces.push_back({pos, text.size()});
  return pieces;
}

std::vector<Stretch> PiecesFromRight(std::string_view text, std::string_view separator,
                                     int64_t splits) {
  const std::string backwards(text.rbegin(), text.rend());
  const std::string sign(separator.rbegin(), separator.rend());
  std::vector<Stretch> pieces = PiecesFromLeft(backwards, sign, splits);
  for (Stretch& piece : pieces) piece = {text.size() - piece.end, text.size() - piece.begin};
  std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

absl::StatusOr<MarkedText> Interleave(const MarkedText& text, const MarkedText& to, int64_t count) {
  MarkedText out;
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  for (size_t i = 0; i < offsets.size(); ++i) {
    if (count < 0 || static_cast<int64_t>(i) < count) out.Append(to);
    if (i + 1 < offsets.size()) out.AppendPart(text, offsets[i], offsets[i + 1] - offsets[i]);
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
  }
  return out;
}

}  // namespace

MarkedText Strip(const MarkedText& text, std::optional<std::string_view> characters, Side side) {
  const std::string_view bytes = text.bytes();
  const auto strips = [&](size_t pos) {
    return characters ? IsOneOf(*characters, bytes, pos) : IsSpace(CodePointAt(bytes, pos));
  };
  size_t begin = 0, end = bytes.size();
  while (side != Side::kRight && begin < end && strips(begin)) {
    begin += CharacterBytes(bytes, begin);
  }
  while (side != Side::kLeft && begin < end) {
    const size_t last = LastCharacter(bytes.substr(0, end));
    if (!strips(last)) break;
    end = last;
  }
  return text.Part(begin, end - begin);
}

std::vector<MarkedText> Split(const MarkedText& text, std::optional<std::string_view> separator,
                              int64_t splits, bool from_right) {
  if (!separator) {
    return PartsOf(text, from_right ? WordsFromRight(text.bytes(), splits)
                                    : WordsFromLeft(text.bytes(), splits));
  }
  return PartsOf(text, from_right ? PiecesFromRight(text.bytes(), *separator, splits)
                                  : PiecesFromLeft(text.bytes(), *separator, splits));
}

std::vector<MarkedText> SplitLines(const MarkedText& text, bool keep_ends) {
  const std::string_view bytes = text.bytes();
  std::vector<Stretch> lines;
  size_t begin = 0;
  for (size_t i = 0; i < bytes.size();) {
    size_t length = CharacterBytes(bytes, i);
    if (IsLineEnd(CodePointAt(bytes, i))) {
      if (bytes.substr(i, 2) == "\r\n") length = 2;
      lines.push_back({begin, keep_ends ? i + length : i});
      begin = i + length;
    }
    i += length;
  }
  if (begin < bytes.size()) lines.push_back({begin, bytes.size()});
  return PartsOf(text, lines);
}

absl::StatusOr<MarkedText> Replace(const MarkedText& text, std::string_view from,
                                   const MarkedText& to, int64_t count) {
  if (from.empty()) return Interleave(text, to, count);
  MarkedText out;
  size_t pos = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    const size_t at = FindBytes(text.bytes(), from, pos);
    if (at == kNowhere) break;
    out.AppendPart(text, pos, at - pos);
    out.Append(to);
    RETURN_IF_ERROR(CheckTextBytes(out.size()));
    pos = at + from.size();
  }
  out.AppendPart(text, pos, text.size() - pos);
  return out;
}

MarkedText Changed(const MarkedText& text,
                   absl::FunctionRef<std::string(std::string_view)> change) {
  MarkedText out;
  size_t begin = 0;
  for (const MarkedText::Run& run : text.runs()) {
    out.Append(change(std::string_view(text.bytes()).substr(begin, run.end - begin)),
               run.is_template);
    begin = run.end;
  }
  return out;
}

MarkedText Upper(const MarkedText& text) { return Changed(text, ToUpper); }
MarkedText Lower(const MarkedText& text) { return Changed(text, ToLower); }

// The title case of one character, which of the sharp s is two.
MarkedText TitleCharacter(const MarkedText& character) {
  if (character.bytes() != "\u00DF") return Upper(character);
  return MarkedText("Ss", character.IsTemplateAt(0));
}

MarkedText Capitalized(const MarkedText& text) {
  if (text.empty()) return text;
  const size_t first = CharacterBytes(text.bytes(), 0);
  MarkedText out = TitleCharacter(text.Part(0, first));
  out.Append(Lower(text.Part(first, text.size() - first)));
  return out;
}

MarkedText Titled(const MarkedText& text) {
  MarkedText out;
  const std::string_view bytes = text.bytes();
  bool in_word = false;
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = CharacterBytes(bytes, i);
    const MarkedText character = text.Part(i, length);
    out.Append(in_word ? Lower(character) : TitleCharacter(character));
    const std::string_view c = bytes.substr(i, length);
    in_word = IsUpperLetter(c) || IsLowerLetter(c);
    i += length;
  }
  return out;
}

}  // namespace pregate::jinja
