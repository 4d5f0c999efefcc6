#include "refactor/energy_code.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int kDroppedBits = 20;                 // a float's sign, exponent and 3 bits stay
constexpr int32_t kCodeOfOne = 0x3F8;            // bits of 1.0f >> kDroppedBits
constexpr int32_t kCodeBase = kCodeOfOne - 255;  // so that a share of 1 has code 255

std::array<float, 256> MakeShares() {
  std::array<float, 256> shares{};
  for (int code = 1; code < 256; ++code) {
    const uint32_t bits =
        (static_cast<uint32_t>(code + kCodeBase) << kDroppedBits) | (1u << (kDroppedBits - 1));
    std::memcpy(&shares[code], &bits, sizeof(bits));
  }
  return shares;
}

}  // namespace

float EncodeShares(absl::Span<const float> activations, absl::Span<const float> weights,
                   absl::Span<uint8_t> codes) {
  PREGATE_CHECK(activations.size() == weights.size() && activations.size() == codes.size());
  const size_t n = codes.size();
  constexpr size_t kLanes = 8;  // partial sums in a fixed order, which the compiler can vectorise
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) {
      lanes[k] += activations[i + k] * activations[i + k] * weights[i + k];
    }
  }
  for (; i < n; ++i) lanes[0] += activations[i] * activations[i] * weights[i];
  float total = 0;
  for (float lane : lanes) total += lane;

  const float scale = total > 0 ? 1 / total : 0;
  const float* h = activations.data();
  const float* w = weights.data();
  uint8_t* out = codes.data();
  for (size_t j = 0; j < n; ++j) {
    const float share = h[j] * h[j] * w[j] * scale;
    int32_t bits;
    std::memcpy(&bits, &share, sizeof(bits));
    out[j] = static_cast<uint8_t>(std::clamp((bits >> kDroppedBits) - kCodeBase, 0, 255));
  }
  return total;
}

void DecodeShares(absl::Span<const uint8_t> codes, absl::Span<float> shares) {
  PREGATE_CHECK(codes.size() == shares.size());
  static const std::array<float, 256> kShares = MakeShares();
  for (size_t j = 0; j < codes.size(); ++j) shares[j] = kShares[codes[j]];
}

}  // namespace pregate
