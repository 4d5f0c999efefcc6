// Rounding to the dtypes that devices store (docs/CONTRACTS.md, "Numerics"): to nearest even.
#pragma once

#include <bit>
#include <cstdint>

#include "common/base/status.h"
#include "common/model/spec/spec.h"

namespace pregate {

// NaN stays NaN (quiet), whatever its payload.
inline uint16_t Bf16Bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

inline float Bf16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// REQUIRES: dtype is kF32 or kBF16, the two that devices compute with.
inline float RoundTo(DType dtype, float value) {
  PREGATE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "dtype ", static_cast<int>(dtype));
  return dtype == DType::kBF16 ? Bf16ToFloat(Bf16Bits(value)) : value;
}

}  // namespace pregate
