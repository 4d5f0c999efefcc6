#include "gateway_service/core/tool_calls.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"
#include "common/base/hash.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway {
namespace {

size_t SkipSpaces(absl::string_view text, size_t at) {
  while (at < text.size() && absl::ascii_isspace(text[at])) ++at;
  return at;
}

constexpr size_t kSpacesMax = 256;  // bytes: that may belong to a call behind them

// Where the spaces that end before `end` begin, or the last kSpacesMax of them.
size_t BeforeSpaces(absl::string_view text, size_t end) {
  const size_t last = end - std::min(end, kSpacesMax);
  while (end > last && absl::ascii_isspace(text[end - 1])) --end;
  return end;
}

// Where the longest suffix begins that `mark` may go on with.
size_t MarkMayBegin(absl::string_view text, absl::string_view mark) {
  size_t at = text.size() - std::min(text.size(), mark.empty() ? 0 : mark.size() - 1);
  while (!absl::StartsWith(mark, text.substr(at))) ++at;
  return at;
}

// {"name": "f", "arguments": {...}} or "parameters", or the arguments as JSON in a string.
bool ReadCall(const Json& value, const std::vector<std::string>& names, ToolCall* call) {
  if (!value.is_object() || !value.contains("name") || !value["name"].is_string()) return false;
  call->name = value["name"].get<std::string>();
  if (std::find(names.begin(), names.end(), call->name) == names.end()) return false;
  const auto given =
      value.contains("arguments") ? value.find("arguments") : value.find("parameters");
  if (given == value.end()) return false;
  Json arguments = *given;
  if (arguments.is_string()) {
    std::optional<Json> parsed = ParseJsonText(arguments.get<std::string>());
    if (!parsed) return false;
    arguments = *std::move(parsed);
  }
  if (!arguments.is_object()) return false;
  call->arguments = arguments.dump(-1, ' ', false, Json::error_handler_t::replace);
  return true;
}

}  // namespace

std::string ToolCallId(absl::string_view request_id, int32_t choice, int32_t index) {
  return Sha256Hex(absl::StrCat(request_id, "/", choice, "/", index)).substr(0, 9);
}

std::vector<ToolCallParser> ToolCallParser::For(const Generation& generation) {
  if (!generation.tool_format) return {};
  std::vector<std::string> names;
  for (const Tool& tool : generation.tools) names.push_back(tool.name);
  return std::vector<ToolCallParser>(generation.n, ToolCallParser(*generation.tool_format, names));
}

ToolCallParser::ToolCallParser(ToolFormat format, std::vector<std::string> names)
    : format_(std::move(format)), names_(std::move(names)) {
  if (!format_.begin.empty()) return;
  state_ = State::kBody;
  body_ = std::string::npos;
}

std::vector<ToolCallParser::Piece> ToolCallParser::Add(absl::string_view text) {
  std::vector<Piece> out;
  buffer_.append(text.data(), text.size());
  Run(/*is_last=*/false, &out);
  return out;
}

std::vector<ToolCallParser::Piece> ToolCallParser::Finish() {
  std::vector<Piece> out;
  Run(/*is_last=*/true, &out);
  return out;
}

void ToolCallParser::Run(bool is_last, std::vector<Piece>* out) {
  Step step = Step::kGoOn;
  while (step == Step::kGoOn) {
    switch (state_) {
      case State::kText:
      case State::kPlain:
        step = RunText(is_last, out);
        break;
      case State::kBody:
        step = RunBody(is_last, out);
        break;
      case State::kEnd:
        step = RunEnd(is_last);
        break;
    }
  }
}

void ToolCallParser::Emit(size_t size, std::vector<Piece>* out) {
  if (size == 0) return;
  behind_call_ = false;
  std::string text = buffer_.substr(0, size);
  buffer_.erase(0, size);
  if (!out->empty() && std::holds_alternative<std::string>(out->back())) {
    std::get<std::string>(out->back()) += text;
  } else {
    out->push_back(std::move(text));
  }
}

ToolCallParser::Step ToolCallParser::RunText(bool is_last, std::vector<Piece>* out) {
  if (behind_call_) buffer_.erase(0, SkipSpaces(buffer_, 0));
  const bool plain = state_ == State::kPlain;
  const size_t mark = plain ? std::string::npos : buffer_.find(format_.begin);
  if (mark != std::string::npos) {
    Emit(BeforeSpaces(buffer_, mark), out);
    begin_ = SkipSpaces(buffer_, 0);
    body_ = std::string::npos;
    state_ = State::kBody;
    return Step::kGoOn;
  }
  if (is_last || plain) {
    Emit(buffer_.size(), out);
  } else {
    Emit(BeforeSpaces(buffer_, MarkMayBegin(buffer_, format_.begin)), out);
  }
  return Step::kNeedsMore;
}

ToolCallParser::Step ToolCallParser::RunBody(bool is_last, std::vector<Piece>* out) {
  if (body_ == std::string::npos) {
    const size_t at = SkipSpaces(buffer_, begin_ + format_.begin.size());
    if (at == buffer_.size() && !is_last) return Step::kNeedsMore;
    if (at == buffer_.size() || buffer_[at] != (format_.is_list ? '[' : '{')) {
      Emit(begin_ + format_.begin.size(), out);
      begin_ = 0;
      state_ = format_.begin.empty() ? State::kPlain : State::kText;
      return Step::kGoOn;
    }
    body_ = scanned_ = at;
    depth_ = 0;
    in_string_ = escaped_ = false;
  }
  const size_t end = ScanJson();
  const size_t size = (end == std::string::npos ? buffer_.size() : end) - body_;
  if (size > kToolCallBytesMax || (end == std::string::npos && is_last)) {
    state_ = State::kPlain;  // what never ends is not searched for others
    return Step::kGoOn;
  }
  if (end == std::string::npos) return Step::kNeedsMore;
  if (TakeCalls(absl::string_view(buffer_).substr(body_, end - body_), out)) {
    buffer_.erase(0, end);
    behind_call_ = true;
    state_ = State::kEnd;
  } else {
    Emit(end, out);
    state_ = format_.begin.empty() ? State::kPlain : State::kText;
  }
  begin_ = 0;
  return Step::kGoOn;
}

ToolCallParser::Step ToolCallParser::RunEnd(bool is_last) {
  absl::string_view mark = format_.end;
  if (format_.begin.empty() && !format_.is_list) mark = ";";
  const size_t at = SkipSpaces(buffer_, 0);
  const absl::string_view rest = absl::string_view(buffer_).substr(at, mark.size());
  if (rest.size() < mark.size() && absl::StartsWith(mark, rest) && !is_last) {
    return Step::kNeedsMore;
  }
  const bool is_mark = rest == mark;
  if (is_mark) buffer_.erase(0, at + mark.size());
  if (!format_.begin.empty()) {
    state_ = State::kText;
  } else if (!format_.is_list && is_mark) {
    state_ = State::kBody;
    body_ = std::string::npos;
  } else {
    state_ = State::kPlain;
  }
  return Step::kGoOn;
}

size_t ToolCallParser::ScanJson() {
  for (; scanned_ < buffer_.size(); ++scanned_) {
    const char c = buffer_[scanned_];
    if (in_string_) {
      if (std::exchange(escaped_, false)) continue;
      if (c == '\\') escaped_ = true;
      if (c == '"') in_string_ = false;
      continue;
    }
    if (c == '"') in_string_ = true;
    if (c == '{' || c == '[') ++depth_;
    if ((c == '}' || c == ']') && --depth_ == 0) return ++scanned_;
  }
  return std::string::npos;
}

bool ToolCallParser::TakeCalls(absl::string_view json, std::vector<Piece>* out) {
  const std::optional<Json> parsed = ParseJsonText(json);
  if (!parsed) return false;
  std::vector<ToolCall> calls;
  const auto read = [&](const Json& value) {
    ToolCall call;
    if (!ReadCall(value, names_, &call)) return false;
    calls.push_back(std::move(call));
    return true;
  };
  if (format_.is_list) {
    if (parsed->empty()) return false;
    for (const Json& value : *parsed) {
      if (!read(value)) return false;
    }
  } else if (!read(*parsed)) {
    return false;
  }
  for (ToolCall& call : calls) out->push_back(std::move(call));
  return true;
}

}  // namespace pregate::gateway
