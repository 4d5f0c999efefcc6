#include "common/device/cpu/exchange.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/base/status.h"
#include "common/device/rounding.h"

namespace pregate::cpu {
void BuildExchange(RowCount tokens, const ExchangeArgs& args, const ExchangeArrays& out) {
  const int num = *tokens.num, world = args.world_size;
  std::fill_n(out.send_rows, int64_t{world} * args.stride, -1);
  std::vector<int32_t> sent(world), taken(world);  // rows of each message so far
  int32_t num_received = 0;
  for (int e = 0; e < args.num_experts; ++e) {
    out.received.offsets[e] = num_received;
    for (int source = 0; source < world; ++source) {
      int32_t own_index = -1;
      for (int t = 0; t < num; ++t) {
        if (args.home_ranks[t] != source) continue;
        ++own_index;
        if (args.routes[t] != e) continue;
        const int target = args.targets[source * args.num_experts + e];
        if (source == args.rank) {
          PREGATE_CHECK(sent[target] < args.stride, "message of ", args.stride, " rows");
          out.send_rows[target * args.stride + sent[target]++] = own_index;
        }
        if (target == args.rank) {
          out.received.order[num_received++] = source * args.stride + taken[source]++;
        }
      }
    }
  }
  out.received.offsets[args.num_experts] = num_received;
}

void FloatsToWire(const float* x, int width, WireType type, void* wire) {
  if (type == WireType::kF32) {
    std::memcpy(wire, x, size_t{4} * width);
    return;
  }
  std::transform(x, x + width, static_cast<uint16_t*>(wire), Bf16Bits);
}

void WireToFloats(const void* wire, int width, WireType type, float* x) {
  if (type == WireType::kF32) {
    std::memcpy(x, wire, size_t{4} * width);
    return;
  }
  const auto* bits = static_cast<const uint16_t*>(wire);
  std::transform(bits, bits + width, x, Bf16ToFloat);
}

}  // namespace pregate::cpu
