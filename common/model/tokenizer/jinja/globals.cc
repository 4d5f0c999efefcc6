// Global functions, as jinja2 3.1 and transformers define them.
#include <algorithm>
#include <ctime>

#include "absl/time/civil_time.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/builtins.h"
#include "common/model/tokenizer/jinja/characters.h"
#include "common/model/tokenizer/jinja/operations.h"
#include "common/model/tokenizer/jinja/printing.h"

namespace pregate::jinja {
namespace {

using ValueKind = Value::Kind;
using Result = absl::StatusOr<Value>;

Result RangeFunction(Runtime& run, const Value&, const Bound& a) {
  ASSIGN_OR_RETURN(const int64_t first, a.Int(0, 0));
  ASSIGN_OR_RETURN(const int64_t second, a.Int(1, 0));
  ASSIGN_OR_RETURN(const int64_t step, a.Int(2, 1));
  const int64_t begin = a.Has(1) ? first : 0, end = a.Has(1) ? second : first;
  if (step == 0) return absl::InvalidArgumentError("range() with a step of 0");
  std::vector<Value> items;
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<int64_t>(items.size()) == kTemplateRangeMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("range() of more than ", kTemplateRangeMax, " numbers"));
    }
    items.push_back(Value(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return run.heap.Sequence(ValueKind::kRange, std::move(items));
}

// What dict(...) or namespace(...) holds: the members of a dict, then the named arguments.
absl::StatusOr<std::vector<Value::Pair>> Members(Heap& heap, const char* what,
                                                 const Arguments& all) {
  if (all.positional.size() > 1 || (!all.positional.empty() && !all.positional[0].IsDict())) {
    return absl::UnimplementedError(absl::StrCat(what, "() of anything but one dict"));
  }
  std::vector<Value::Pair> pairs;
  if (!all.positional.empty()) pairs = all.positional[0].AsPairs();
  for (const auto& [name, value] : all.named) {
    RETURN_IF_ERROR(heap.Step(1 + static_cast<int64_t>(pairs.size() / 16)));
    ASSIGN_OR_RETURN(Value key, heap.String(name, /*is_template=*/true));
    const auto known = std::find_if(pairs.begin(), pairs.end(), [&name = name](const auto& pair) {
      return pair.first.IsString() && pair.first.AsBytes() == name;
    });
    if (known == pairs.end()) {
      pairs.emplace_back(std::move(key), value);
    } else {
      known->second = value;
    }
  }
  return pairs;
}

Result DictFunction(Runtime& run, const Value&, const Bound& a) {
  ASSIGN_OR_RETURN(auto pairs, Members(run.heap, "dict", a.all));
  return run.heap.Dict(std::move(pairs));
}

Result NamespaceFunction(Runtime& run, const Value&, const Bound& a) {
  ASSIGN_OR_RETURN(const auto pairs, Members(run.heap, "namespace", a.all));
  RETURN_IF_ERROR(run.heap.Step(static_cast<int64_t>(pairs.size())));
  ASSIGN_OR_RETURN(const Value space, run.heap.Namespace());
  for (const auto& [name, value] : pairs) {
    if (!name.IsString() || name.AsBytes().starts_with('_')) {
      return absl::InvalidArgumentError("namespace() with a name that is none, or begins with _");
    }
    space.AsNamespace().members.emplace_back(std::string(name.AsBytes()), value);
  }
  return space;
}

Result RaiseExceptionFunction(Runtime& run, const Value&, const Bound& a) {
  ASSIGN_OR_RETURN(const MarkedText message, Str(run.heap, a[0]));
  constexpr size_t kBytesMax = 1024;
  const std::string_view text = message.bytes();
  size_t end = 0;
  while (end < text.size() && end < kBytesMax) end += CharacterBytes(text, end);
  return Raised(text.substr(0, end));
}

// In UTC, in the language of C.
Result StrftimeNowFunction(Runtime& run, const Value&, const Bound& a) {
  if (!a[0].IsString() || a[0].AsBytes().size() > 256 ||
      a[0].AsBytes().find('\0') != std::string_view::npos) {
    return absl::InvalidArgumentError("strftime_now() of no format of at most 256 bytes");
  }
  const std::string format(a[0].AsBytes());
  const std::tm time = absl::ToTM(run.now, absl::UTCTimeZone());
  std::string text(4096, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &time));
  return run.heap.String(std::move(text), /*is_template=*/false);
}

constexpr Builtin kGlobals[] = {
    {"dict", {}, kAny, DictFunction},
    {"namespace", {}, kAny, NamespaceFunction},
    {"raise_exception", {"message"}, 1, RaiseExceptionFunction},
    {"range", {"start", "stop", "step"}, 1, RangeFunction},
    {"strftime_now", {"format"}, 1, StrftimeNowFunction},
};

}  // namespace

const Builtin* FindGlobal(std::string_view name) {
  for (const Builtin& global : kGlobals) {
    if (name == global.name) return &global;
  }
  return nullptr;
}

bool IsUnsupportedGlobal(std::string_view name) {
  return name == "cycler" || name == "joiner" || name == "lipsum";
}

}  // namespace pregate::jinja
