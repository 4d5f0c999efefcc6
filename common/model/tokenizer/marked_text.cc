#include "common/model/tokenizer/marked_text.h"

#include <algorithm>
#include <utility>

namespace pregate {

MarkedText::MarkedText(std::string bytes, bool is_template) : bytes_(std::move(bytes)) {
  if (!bytes_.empty()) runs_.push_back({bytes_.size(), is_template});
}

void MarkedText::Append(std::string_view bytes, bool is_template) {
  if (bytes.empty()) return;
  bytes_.append(bytes);
  if (!runs_.empty() && runs_.back().is_template == is_template) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), is_template});
  }
}

size_t MarkedText::RunAt(size_t pos) const {
  const auto ends_before = [](const Run& run, size_t at) { return run.end <= at; };
  return std::lower_bound(runs_.begin(), runs_.end(), pos, ends_before) - runs_.begin();
}

void MarkedText::AppendPart(const MarkedText& other, size_t begin, size_t size) {
  const std::string_view bytes = other.bytes_;
  for (size_t run = size > 0 ? other.RunAt(begin) : 0; size > 0; ++run) {
    const size_t length = std::min(size, other.runs_[run].end - begin);
    Append(bytes.substr(begin, length), other.runs_[run].is_template);
    begin += length;
    size -= length;
  }
}

MarkedText MarkedText::Part(size_t begin, size_t size) const {
  MarkedText part;
  part.AppendPart(*this, begin, size);
  return part;
}

bool MarkedText::IsTemplateAt(size_t pos) const { return runs_[RunAt(pos)].is_template; }

}  // namespace pregate
