// What templates can call: filters, tests, global functions and methods, in tables by name.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/jinja/value.h"

namespace pregate::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// What builtins may use of the world.
struct Runtime {
  Heap heap;
  absl::Time now;  // for strftime_now
};

// The arguments of one call, by the places of their parameters.
class Bound {
 public:
  bool Has(size_t i) const { return values[i].has_value(); }
  const Value& operator[](size_t i) const { return *values[i]; }  // REQUIRES: Has(i)
  bool IsTrue(size_t i, bool fallback) const;
  absl::StatusOr<int64_t> Int(size_t i, int64_t fallback) const;

  std::vector<std::optional<Value>> values;
  Arguments all;  // of a builtin that takes any
};

struct Builtin {
  const char* name;
  std::array<const char*, 5> parameters;  // null: no more
  int required;                           // of them; kAny: all arguments as they are
  // `self` is the piped value, the tested one or the method's; none for global functions.
  absl::StatusOr<Value> (*run)(Runtime& runtime, const Value& self, const Bound& arguments);
};
inline constexpr int kAny = -1;

// InvalidArgument for too few, too many or unknown arguments.
absl::StatusOr<Value> CallBuiltin(Runtime& runtime, const Builtin& builtin, const Value& self,
                                  Arguments arguments);

// Null: there is none of that name.
const Builtin* FindFilter(std::string_view name);
const Builtin* FindTest(std::string_view name);
const Builtin* FindGlobal(std::string_view name);
// A global of jinja2 that is none here: whether it "is defined" has no true answer.
bool IsUnsupportedGlobal(std::string_view name);

// Unimplemented: `the filter "x" is not supported`.
absl::Status NotSupported(std::string_view what, std::string_view name);

// The status of raise_exception(message), and whether one is that.
absl::Status Raised(std::string_view message);
bool IsRaised(const absl::Status& status);

}  // namespace pregate::jinja
