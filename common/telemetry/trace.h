// Spans of a distributed trace, and the header by which services hand a trace on (W3C Trace Context).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate {

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

// Whose trace something belongs to.
struct TraceContext {
  TraceId trace_id = {};
  SpanId parent = {};    // the caller's span; zero: there is none
  bool sampled = false;  // whether spans of it are to be exported
};

// Of a `traceparent` header's value, which comes from outside: nothing where it is not of the form
// VERSION-TRACE-PARENT-FLAGS. What a later version adds is ignored.
std::optional<TraceContext> ParseTraceparent(absl::string_view header);

// The header of a call that is made for that trace: `context.parent` is the span that makes it.
std::string Traceparent(const TraceContext& context);

// The id in lower-case hexadecimal, as logs and other systems show it.
std::string TraceIdText(const TraceId& id);

// Ids of random bits, never zero, which means none.
TraceId MakeTraceId(uint64_t high, uint64_t low);
SpanId MakeSpanId(uint64_t bits);

struct Span {
  using Value = std::variant<std::string, int64_t, double>;

  TraceId trace_id = {};
  SpanId id = {};
  SpanId parent = {};  // zero: the first of its trace
  std::string name;
  bool is_server = false;  // a call that was served; else a part of one
  absl::Time start, end;
  std::vector<std::pair<std::string, Value>> attributes;
  bool failed = false;
};

// Where spans go. Thread-safe; never blocks.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  virtual void Add(std::vector<Span> spans) = 0;
};

}  // namespace pregate
