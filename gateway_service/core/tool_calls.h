// Finds calls of tools in the text of an answer, as the text comes.
//
//   "Let me see.\n<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>"
//       ─▶ text "Let me see.", call f({"x":1})
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "gateway_service/core/generation.h"

namespace pregate::gateway {

// What names call `index` of a choice in its conversation: 9 letters and digits, for templates of
// Mistral's take no other length.
std::string ToolCallId(absl::string_view request_id, int32_t choice, int32_t index);

// A call in parts: the name once it is sure that arguments follow, these as they come, and their end,
// unless the text ends before.
struct CallBegin {
  std::string name;
};
struct CallArguments {
  std::string piece;  // not empty
};
struct CallEnd {};

// Not thread-safe. What comes out, joined, does not depend on how the text is cut. A call comes out once
// it is whole; one that is no JSON, names no tool, lacks its arguments or never ends stays text. White
// space around calls is dropped. Linear in the text.
//
// In parts: what begins {"name": TOOL, "arguments": { comes out from there on, and is a call whatever
// follows. A call that begins otherwise comes out when it is whole.
class ToolCallParser {
 public:
  // Text is not empty; calls have no id.
  using Piece = std::variant<std::string, ToolCall, CallBegin, CallArguments, CallEnd>;

  // One for each choice of a generation, in parts where it is streamed; none where calls are not
  // looked for.
  static std::vector<ToolCallParser> For(const Generation& generation);
  // Calls of any of `names`.
  ToolCallParser(ToolFormat format, std::vector<std::string> names, bool in_parts = false);

  std::vector<Piece> Add(absl::string_view text);
  std::vector<Piece> Finish();

 private:
  // Where the text behind what is decided stands.
  enum class State {
    kText,       // outside of a call
    kBody,       // behind its begin
    kArguments,  // in parts: in its arguments
    kMembers,    // in parts: behind them, in the call's object
    kNext,       // in parts: behind a call of a list
    kEnd,        // behind its JSON
    kPlain,      // no call follows
  };
  enum class Step { kGoOn, kNeedsMore };

  void Run(bool is_last, std::vector<Piece>* out);
  Step RunText(bool is_last, std::vector<Piece>* out);
  Step RunBody(bool is_last, std::vector<Piece>* out);
  Step RunArguments(std::vector<Piece>* out);
  Step RunMembers(bool is_last);
  Step RunNext(bool is_last, std::vector<Piece>* out);
  Step RunEnd(bool is_last);
  // Whether a call's object begins at `at` whose arguments may come in parts. Then it has begun.
  enum class Head { kIs, kIsNot, kNeedsMore };
  Head ReadHead(size_t at, bool is_last, std::vector<Piece>* out);
  // The end of the JSON that begins at `body_`, as far as it has come; npos: further on.
  size_t ScanJson();
  bool TakeCalls(absl::string_view json, std::vector<Piece>* out);
  // The first `size` bytes become text.
  void Emit(size_t size, std::vector<Piece>* out);

  ToolFormat format_;
  std::vector<std::string> names_;
  bool in_parts_;
  State state_ = State::kText;
  bool behind_call_ = false;  // white space that follows is dropped
  std::string buffer_;        // what is not decided
  size_t begin_ = 0;          // kBody: where what may be a call begins: `begin` of the format
  // kBody: of the JSON: where it begins (npos: not yet), how far it was scanned, and what was open.
  size_t body_ = 0, scanned_ = 0;
  bool is_whole_ = false;  // it comes out as a whole, if it is a call
  int depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

}  // namespace pregate::gateway
