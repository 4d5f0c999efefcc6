#include "sim/csv.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate::sim {
namespace {

constexpr size_t kFieldsMax = 64;

absl::Status Bad(int64_t line, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", what));
}

}  // namespace

bool CsvReader::AtLineEnd() const {
  return text_.empty() || text_.starts_with('\n') || text_.starts_with("\r\n");
}

absl::StatusOr<bool> CsvReader::Next() {
  while (!text_.empty() && AtLineEnd()) {
    text_.remove_prefix(text_.front() == '\r' ? 2 : 1);
    ++next_line_;
  }
  if (text_.empty()) return false;
  line_ = next_line_;
  fields_.clear();
  for (bool more = true; more;) {
    if (fields_.size() == kFieldsMax) return Bad(line_, "more than 64 fields");
    RETURN_IF_ERROR(text_.starts_with('"') ? ReadQuoted() : ReadField());
    more = text_.starts_with(',');
    if (more) text_.remove_prefix(1);
  }
  return true;
}

absl::Status CsvReader::ReadField() {
  std::string_view field = text_.substr(0, text_.find_first_of(",\n"));
  text_.remove_prefix(field.size());
  if (!text_.starts_with(',') && field.ends_with('\r')) field.remove_suffix(1);
  fields_.emplace_back(field);
  return absl::OkStatus();
}

absl::Status CsvReader::ReadQuoted() {
  std::string& field = fields_.emplace_back();
  do {
    text_.remove_prefix(1);
    const size_t end = text_.find('"');
    if (end == std::string_view::npos) return Bad(line_, "a quote is not closed");
    field += text_.substr(0, end);
    next_line_ += std::count(text_.begin(), text_.begin() + end, '\n');
    text_.remove_prefix(end + 1);
    if (text_.starts_with('"')) field += '"';
  } while (text_.starts_with('"'));
  if (text_.starts_with(',') || AtLineEnd()) return absl::OkStatus();
  return Bad(line_, "text follows a closing quote");
}

}  // namespace pregate::sim
