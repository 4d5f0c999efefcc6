#include "common/model/tokenizer/jinja/builtins.h"

#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/operations.h"

namespace pregate::jinja {
namespace {

constexpr const char* kRaised = "pregate/raised";

absl::Status BadCall(const Builtin& builtin, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(builtin.name, "() ", what));
}

size_t CountParameters(const Builtin& builtin) {
  size_t count = 0;
  while (count < builtin.parameters.size() && builtin.parameters[count] != nullptr) ++count;
  return count;
}

absl::Status BindNamed(const Builtin& builtin, std::string_view name, Value value, Bound* bound) {
  for (size_t i = 0; i < bound->values.size(); ++i) {
    if (name != builtin.parameters[i]) continue;
    if (bound->Has(i))
      return BadCall(builtin, absl::StrCat("gets \"", std::string(name), "\" twice"));
    bound->values[i] = std::move(value);
    return absl::OkStatus();
  }
  return BadCall(builtin, absl::StrCat("has no parameter \"", std::string(name), "\""));
}

absl::StatusOr<Bound> Bind(const Builtin& builtin, Arguments arguments) {
  Bound bound;
  if (builtin.required == kAny) {
    bound.all = std::move(arguments);
    return bound;
  }
  bound.values.resize(CountParameters(builtin));
  if (arguments.positional.size() > bound.values.size()) {
    return BadCall(builtin, absl::StrCat("takes at most ", bound.values.size(), " arguments, not ",
                                         arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    bound.values[i] = std::move(arguments.positional[i]);
  }
  for (auto& [name, value] : arguments.named) {
    RETURN_IF_ERROR(BindNamed(builtin, name, std::move(value), &bound));
  }
  for (int i = 0; i < builtin.required; ++i) {
    if (!bound.Has(i))
      return BadCall(builtin, absl::StrCat("needs \"", builtin.parameters[i], "\""));
  }
  return bound;
}

}  // namespace

bool Bound::IsTrue(size_t i, bool fallback) const {
  return Has(i) ? jinja::IsTrue(values[i].value()) : fallback;
}

absl::StatusOr<int64_t> Bound::Int(size_t i, int64_t fallback) const {
  if (!Has(i) || values[i]->IsNone()) return fallback;
  if (values[i]->IsUndefined()) return UndefinedError(*values[i]);
  if (values[i]->IsInteger()) return values[i]->AsInt();
  return absl::InvalidArgumentError(
      absl::StrCat("an argument is ", values[i]->KindName(), ", expected an integer"));
}

absl::StatusOr<Value> CallBuiltin(Runtime& runtime, const Builtin& builtin, const Value& self,
                                  Arguments arguments) {
  RETURN_IF_ERROR(runtime.heap.Step());
  ASSIGN_OR_RETURN(const Bound bound, Bind(builtin, std::move(arguments)));
  return builtin.run(runtime, self, bound);
}

absl::Status NotSupported(std::string_view what, std::string_view name) {
  return absl::UnimplementedError(absl::StrCat("the ", std::string(what), " \"",
                                               absl::CHexEscape(std::string(name.substr(0, 64))),
                                               "\" is not supported"));
}

absl::Status Raised(std::string_view message) {
  absl::Status status =
      absl::InvalidArgumentError(absl::string_view(message.data(), message.size()));
  status.SetPayload(kRaised, absl::Cord());
  return status;
}

bool IsRaised(const absl::Status& status) { return status.GetPayload(kRaised).has_value(); }

}  // namespace pregate::jinja
