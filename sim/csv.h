// Comma-separated values as RFC 4180 has them, with line ends of either kind.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate::sim {

// Records of a text, one after another; empty lines are none. A quoted field may hold commas, line
// ends and, doubled, quotes.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : text_(text) {}

  // False at the end. INVALID_ARGUMENT names the line of a quote that is not closed or is followed
  // by text, or of a record of more than 64 fields.
  absl::StatusOr<bool> Next();
  const std::vector<std::string>& fields() const { return fields_; }
  int64_t line() const { return line_; }  // that the record began on, from 1

 private:
  absl::Status ReadField();
  absl::Status ReadQuoted();
  bool AtLineEnd() const;

  std::string_view text_;  // what is not read yet
  std::vector<std::string> fields_;
  int64_t line_ = 0, next_line_ = 1;
};

}  // namespace pregate::sim
