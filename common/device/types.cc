#include "common/device/types.h"

#include "common/base/status.h"

namespace pregate {
namespace {

template <class Type>
const char* NameOf(Type type) {
  switch (type) {
    case Type::kF32:
      return "f32";
    case Type::kBF16:
      return "bf16";
  }
  return "?";
}

}  // namespace

absl::StatusOr<StepTypes> TypesOf(DType dtype) {
  if (dtype == DType::kF32) return kF32Types;
  if (dtype == DType::kBF16) return kBF16Types;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype is ", DTypeName(dtype), ", must be f32 or bf16"));
}

absl::StatusOr<StepTypes> TypesOf(std::string_view dtype) {
  ASSIGN_OR_RETURN(const DType parsed, ParseDType(dtype));
  return TypesOf(parsed);
}

std::vector<std::string> DTypeChoices() { return {"f32", "bf16"}; }

const char* TypeName(WeightFormat format) { return NameOf(format); }
const char* TypeName(ActType type) { return NameOf(type); }
const char* TypeName(KvType type) { return NameOf(type); }
const char* TypeName(WireType type) { return NameOf(type); }

std::string TypesName(const StepTypes& types) {
  if (types == kF32Types || types == kBF16Types) return TypeName(types.weights);
  return absl::StrCat("weights-", TypeName(types.weights), ",act-", TypeName(types.act), ",kv-",
                      TypeName(types.kv), ",wire-", TypeName(types.wire));
}

DType ValueType(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return DType::kF32;
    case WeightFormat::kBF16:
      return DType::kBF16;
  }
  return DType::kF32;
}

}  // namespace pregate
