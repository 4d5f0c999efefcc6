#include "common/grammar/marked_json.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"
#include "common/grammar/constraint.h"
#include "common/grammar/json_schema.h"

namespace pregate {
namespace {

using Expr = Grammar::Expr;

// Text around a mark, by the bytes that may stand in it.
class FreeText {
 public:
  FreeText(std::string_view mark, Grammar* grammar) : mark_(mark), grammar_(grammar) {}

  // Whatever the mark is not in; it may end with a part of one.
  Expr WithoutMark() {
    return grammar_->Sequence(
        {Others(), grammar_->Optional(grammar_->Sequence({Begun(), Part()}))});
  }
  // The same up to the end of the first mark.
  Expr ThroughMark() {
    return grammar_->Sequence({Others(), Begun(), grammar_->Literal(mark_.substr(1))});
  }

 private:
  // Any bytes, back where no mark has begun.
  Expr Others() {
    std::vector<Expr> ways = {ByteBut({mark_[0]})};
    for (size_t size = 1; size < mark_.size(); ++size) {
      ways.push_back(grammar_->Sequence({Begun(), grammar_->Literal(mark_.substr(1, size - 1)),
                                         ByteBut({mark_[0], mark_[size]})}));
    }
    return grammar_->Repeat(grammar_->Choice(std::move(ways)), 0, Grammar::kUnbounded);
  }
  // A mark's first byte, maybe behind others that had begun one.
  Expr Begun() {
    const Expr first = grammar_->Literal(mark_.substr(0, 1));
    const Expr again = grammar_->Sequence({Part(), grammar_->Literal(mark_.substr(0, 1))});
    return grammar_->Sequence({first, grammar_->Repeat(again, 0, Grammar::kUnbounded)});
  }
  // What may stand of the mark behind its first byte, without all of it.
  Expr Part() {
    std::vector<Expr> parts;
    for (size_t size = 1; size < mark_.size(); ++size) {
      parts.push_back(grammar_->Literal(mark_.substr(1, size - 1)));
    }
    return grammar_->Choice(std::move(parts));
  }
  Expr ByteBut(std::vector<char> bytes) {
    std::vector<Expr> ranges;
    int low = 0;
    for (int byte = 0; byte <= 256; ++byte) {
      const bool out = byte == 256 || std::find(bytes.begin(), bytes.end(),
                                                static_cast<char>(byte)) != bytes.end();
      if (!out) continue;
      if (low < byte) {
        ranges.push_back(
            grammar_->Range(static_cast<uint8_t>(low), static_cast<uint8_t>(byte - 1)));
      }
      low = byte + 1;
    }
    return grammar_->Choice(std::move(ranges));
  }

  const std::string_view mark_;
  Grammar* const grammar_;
};

}  // namespace

absl::Status CheckMarks(const MarkedJsonConstraint& marked) {
  const std::string& begin = marked.begin;
  if (begin.size() < 2 || begin.size() > kMarkBytesMax || begin.find(begin[0], 1) != begin.npos) {
    return absl::InvalidArgumentError(absl::StrCat("marked_json.begin: ", begin.size(),
                                                   " bytes, expected 2 to ", kMarkBytesMax,
                                                   ", the first of which is not in it again"));
  }
  if (marked.end.size() > kMarkBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("marked_json.end: ", marked.end.size(), " bytes, at most ", kMarkBytesMax));
  }
  RETURN_IF_ERROR(CheckUtf8(begin, "marked_json.begin"));
  return CheckUtf8(marked.end, "marked_json.end");
}

absl::Status AddMarkedJson(const MarkedJsonConstraint& marked, Grammar* grammar) {
  const Grammar::Rule root = grammar->NewRule();
  ASSIGN_OR_RETURN(const Grammar::Rule json, AddJsonSchema(marked.schema, grammar));
  FreeText text(marked.begin, grammar);
  const auto space = [&] {
    return grammar->Repeat(grammar->Choice({grammar->Literal(" "), grammar->Literal("\n")}), 0,
                           kMarkedSpacesMax);
  };
  const Expr marks = grammar->Sequence(
      {text.ThroughMark(), space(), grammar->Call(json), space(), grammar->Literal(marked.end)});
  grammar->SetRule(
      root, grammar->Sequence({grammar->Repeat(marks, 0, marked.once ? 1 : Grammar::kUnbounded),
                               text.WithoutMark()}));
  return absl::OkStatus();
}

}  // namespace pregate
