// Text as editors, spreadsheets and shells leave it in files: a byte-order mark before it, line
// ends of either kind, other encodings, brackets without end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace pregate {

// `bytes` without the UTF-8 byte-order mark that may stand before them.
std::string_view WithoutByteOrderMark(std::string_view bytes);

// INVALID_ARGUMENT names `where` and the first byte of `text` that belongs to no UTF-8 character.
absl::Status CheckUtf8(std::string_view text, std::string_view where);

// What `bytes` hold when they are a file's own syntax (JSON, CSV, a template) and not somebody's
// content: UTF-8 without the byte-order mark before it. INVALID_ARGUMENT names `where` and the byte
// at fault, or the encoding that another byte-order mark stands for. Points into `bytes`.
absl::StatusOr<std::string_view> TextOf(std::string_view bytes, std::string_view where);

// The lines of a text, without their ends (LF or CRLF); the last may lack its end.
class TextLines {
 public:
  explicit TextLines(std::string_view text) : rest_(text) {}

  bool Next();  // false: there is none
  std::string_view line() const { return line_; }
  int64_t number() const { return number_; }  // from 1
  bool IsBlank() const;                       // nothing but spaces and tabs

 private:
  std::string_view rest_, line_;
  int64_t number_ = 0;
};

// Of JSON, the byte at which values are nested deeper than kJsonDepthMax. Looks at brackets outside of
// strings alone, so that a hostile text costs no nested values at all.
std::optional<size_t> JsonTooDeepAt(std::string_view json);

}  // namespace pregate
