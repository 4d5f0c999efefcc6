// Rounding to the types that devices store (docs/CONTRACTS.md, "Numerics"): to nearest even.
#pragma once

#include <bit>
#include <cstdint>

#include "common/device/types.h"

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

// Type: WeightFormat, ActType, KvType or WireType.
template <class Type>
float RoundTo(Type type, float value) {
  switch (type) {
    case Type::kF32:
      return value;
    case Type::kBF16:
      return Bf16ToFloat(Bf16Bits(value));
  }
  return value;
}

}  // namespace pregate
