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

constexpr size_t kHeadBytesMax = 1024;  // of a call in parts: what stands before its arguments

// Reads a text bit by bit; what has failed stays so.
class Reader {
 public:
  Reader(absl::string_view text, size_t at) : text_(text), at_(at) {}

  // White space, then `mark`.
  bool Mark(absl::string_view mark) {
    if (!Spaces()) return false;
    const absl::string_view here = text_.substr(at_, mark.size());
    if (here != mark) return Fail(absl::StartsWith(mark, here));
    at_ += mark.size();
    return true;
  }
  // White space, then a string without escapes.
  bool String(std::string* out) {
    if (!Mark("\"")) return false;
    const size_t end = text_.find_first_of("\"\\", at_);
    if (end == absl::string_view::npos) return Fail(/*ends=*/true);
    if (text_[end] != '"') return Fail(/*ends=*/false);
    out->assign(text_.data() + at_, end - at_);
    at_ = end + 1;
    return true;
  }
  size_t at() const { return at_; }
  bool ended() const { return ended_; }  // what has failed may go on behind the text

 private:
  bool Spaces() {
    if (failed_) return false;
    at_ = SkipSpaces(text_, at_);
    return at_ < text_.size() || Fail(/*ends=*/true);
  }
  bool Fail(bool ends) {
    failed_ = true;
    ended_ = ends;
    return false;
  }

  const absl::string_view text_;
  size_t at_;
  bool failed_ = false, ended_ = false;
};

}  // namespace

std::string ToolCallId(absl::string_view request_id, int32_t choice, int32_t index) {
  return Sha256Hex(absl::StrCat(request_id, "/", choice, "/", index)).substr(0, 9);
}

std::vector<ToolCallParser> ToolCallParser::For(const Generation& generation) {
  if (!generation.tool_format) return {};
  std::vector<std::string> names;
  for (const Tool& tool : generation.tools) names.push_back(tool.name);
  return std::vector<ToolCallParser>(
      generation.n, ToolCallParser(*generation.tool_format, names, generation.stream));
}

ToolCallParser::ToolCallParser(ToolFormat format, std::vector<std::string> names, bool in_parts)
    : format_(std::move(format)), names_(std::move(names)), in_parts_(in_parts) {
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
      case State::kArguments:
        step = RunArguments(out);
        break;
      case State::kMembers:
        step = RunMembers(is_last);
        break;
      case State::kNext:
        step = RunNext(is_last, out);
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
    is_whole_ = !in_parts_;
  }
  if (!is_whole_) {
    const size_t call = format_.is_list ? body_ + 1 : body_;
    const Head head = ReadHead(call, is_last, out);
    if (head == Head::kIs) return Step::kGoOn;
    if (head == Head::kNeedsMore) return Step::kNeedsMore;
    is_whole_ = true;
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

ToolCallParser::Head ToolCallParser::ReadHead(size_t at, bool is_last, std::vector<Piece>* out) {
  const absl::string_view text = absl::string_view(buffer_).substr(0, at + kHeadBytesMax);
  Reader reader(text, at);
  std::string key, name, arguments;
  const bool is_head = reader.Mark("{") && reader.String(&key) && key == "name" &&
                       reader.Mark(":") && reader.String(&name) &&
                       std::find(names_.begin(), names_.end(), name) != names_.end() &&
                       reader.Mark(",") && reader.String(&arguments) &&
                       (arguments == "arguments" || arguments == "parameters") &&
                       reader.Mark(":") && reader.Mark("{");
  if (!is_head) {
    const bool may_be = reader.ended() && !is_last && text.size() < at + kHeadBytesMax;
    return may_be ? Head::kNeedsMore : Head::kIsNot;
  }
  out->push_back(CallBegin{std::move(name)});
  buffer_.erase(0, reader.at() - 1);  // the arguments' brace stays
  begin_ = scanned_ = 0;
  depth_ = 0;
  in_string_ = escaped_ = false;
  state_ = State::kArguments;
  return Head::kIs;
}

ToolCallParser::Step ToolCallParser::RunArguments(std::vector<Piece>* out) {
  const size_t end = ScanJson();
  const size_t size = end == std::string::npos ? buffer_.size() : end;
  if (size > 0) out->push_back(CallArguments{buffer_.substr(0, size)});
  buffer_.erase(0, size);
  scanned_ = 0;
  if (end == std::string::npos) return Step::kNeedsMore;
  out->push_back(CallEnd{});
  behind_call_ = true;
  depth_ = 0;
  state_ = State::kMembers;
  return Step::kGoOn;
}

// Other members are left out. Where the object does not end, what follows is not its.
ToolCallParser::Step ToolCallParser::RunMembers(bool is_last) {
  if (depth_ == 0) {
    buffer_.erase(0, SkipSpaces(buffer_, 0));
    if (buffer_.empty() && !is_last) return Step::kNeedsMore;
    if (buffer_.empty() || (buffer_[0] != '}' && buffer_[0] != ',')) {
      state_ = State::kEnd;
      return Step::kGoOn;
    }
    depth_ = 1;
  }
  const size_t end = ScanJson();
  buffer_.erase(0, end == std::string::npos ? buffer_.size() : end);
  scanned_ = 0;
  if (end == std::string::npos) return Step::kNeedsMore;
  state_ = format_.is_list ? State::kNext : State::kEnd;
  return Step::kGoOn;
}

ToolCallParser::Step ToolCallParser::RunNext(bool is_last, std::vector<Piece>* out) {
  const size_t at = SkipSpaces(buffer_, 0);
  if (at == buffer_.size() && !is_last) return Step::kNeedsMore;
  if (at < buffer_.size() && buffer_[at] == ']') {
    buffer_.erase(0, at + 1);
    state_ = State::kEnd;
    return Step::kGoOn;
  }
  if (at < buffer_.size() && buffer_[at] == ',') {
    const Head head = ReadHead(at + 1, is_last, out);
    if (head == Head::kNeedsMore) return Step::kNeedsMore;
    if (head == Head::kIs) return Step::kGoOn;
  }
  state_ = State::kPlain;
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
