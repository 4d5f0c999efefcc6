// What a device stores the numbers of a step as. --dtype names one element type; here it becomes
// four that mean different things: weights, inputs of matrix products, KV, and what ranks exchange.
//
// To add a weight format (fp8, int8, int4, blocks of GGUF), in this order:
//   1. types.h, types.cc: a member of WeightFormat, its name, and the type that its values must fit.
//   2. reference/weights/: how the format rounds values. This defines its numbers.
//   3. cpu/weights/: a file that packs it and finds its panels (beside panels.cc), and the kernel of
//      one panel (beside matmul.cc).
//   4. cuda/weights/: a file that packs it (beside image.cc), and the kernels of products and
//      embedding rows.
//   5. cpu/ and cuda/*_contract_families.cc: an entry of StepTypesUnderTest. Every contract test of
//      that device then runs on it.
//   6. DTypeChoices and TypesOf, or an option beside --dtype, name it.
// Nothing else looks inside a packed matrix or unit: operations, engine and exchange move bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/spec/spec.h"

namespace pregate {

// How a weight lies packed on a device: storage and quantisation.
enum class WeightFormat { kF32, kBF16 };
// Inputs of matrix products.
enum class ActType { kF32, kBF16 };
// Keys and values in the paged cache.
enum class KvType { kF32, kBF16 };
// Rows that ranks exchange. The experts' own part O is rounded to it even on one rank, so that
// results do not depend on the number of ranks.
enum class WireType { kF32, kBF16 };

struct StepTypes {
  WeightFormat weights = WeightFormat::kF32;
  ActType act = ActType::kF32;
  KvType kv = KvType::kF32;
  WireType wire = WireType::kF32;
  bool operator==(const StepTypes&) const = default;
};
inline constexpr StepTypes kF32Types = {};
inline constexpr StepTypes kBF16Types = {WeightFormat::kBF16, ActType::kBF16, KvType::kBF16,
                                         WireType::kBF16};

// What --dtype stands for. INVALID_ARGUMENT for f16, which no device computes with.
absl::StatusOr<StepTypes> TypesOf(DType dtype);
// By its name; INVALID_ARGUMENT too for a name that no element type has.
absl::StatusOr<StepTypes> TypesOf(std::string_view dtype);
// The names that --dtype takes.
std::vector<std::string> DTypeChoices();

// For messages and ids: "f32", "bf16".
const char* TypeName(WeightFormat format);
const char* TypeName(ActType type);
const char* TypeName(KvType type);
const char* TypeName(WireType type);
// "f32" or "bf16" where all four are the same, else "weights-bf16,act-f32,kv-f32,wire-f32".
std::string TypesName(const StepTypes& types);

// The type whose range a checkpoint's values must fit to be stored in `format`.
DType ValueType(WeightFormat format);

// Bytes of one value. (A weight format has none: its device's weights/ says what a matrix takes.)
constexpr size_t ElementBytes(ActType type) { return type == ActType::kBF16 ? 2 : 4; }
constexpr size_t ElementBytes(KvType type) { return type == KvType::kBF16 ? 2 : 4; }
constexpr size_t ElementBytes(WireType type) { return type == WireType::kBF16 ? 2 : 4; }

}  // namespace pregate
