#include <algorithm>
#include <tuple>
#include <vector>

#include "common/device/reference/reference_ops.h"
#include "common/device/rounding.h"

namespace pregate::reference {
namespace {

struct Traveller {
  int expert, source, own_index, target;
};

}  // namespace

void BuildExchange(RowCount tokens, const ExchangeArgs& args, const ExchangeArrays& out) {
  std::vector<Traveller> all;
  std::vector<int> num_own(args.world_size);
  for (int t = 0; t < *tokens.num; ++t) {
    const int home = args.home_ranks[t], route = args.routes[t], own_index = num_own[home]++;
    if (route < 0 || route >= args.num_experts) continue;
    all.push_back({route, home, own_index, args.targets[home * args.num_experts + route]});
  }
  std::sort(all.begin(), all.end(), [](const Traveller& a, const Traveller& b) {
    return std::tie(a.expert, a.source, a.own_index) < std::tie(b.expert, b.source, b.own_index);
  });
  std::fill_n(out.send_rows, args.world_size * args.stride, -1);
  std::fill_n(out.received.offsets, args.num_experts + 1, 0);
  std::vector<int> sent(args.world_size), taken(args.world_size);
  int num_received = 0;
  for (const Traveller& t : all) {
    if (t.source == args.rank) {
      out.send_rows[t.target * args.stride + sent[t.target]++] = t.own_index;
    }
    if (t.target == args.rank) {
      out.received.order[num_received++] = t.source * args.stride + taken[t.source]++;
      ++out.received.offsets[t.expert + 1];
    }
  }
  for (int e = 0; e < args.num_experts; ++e) {
    out.received.offsets[e + 1] += out.received.offsets[e];
  }
}

void StoreWire(float value, int64_t index, WireType type, void* wire) {
  if (type == WireType::kBF16) {
    static_cast<uint16_t*>(wire)[index] = Bf16Bits(value);
  } else {
    static_cast<float*>(wire)[index] = value;
  }
}

float LoadWire(const void* wire, int64_t index, WireType type) {
  return type == WireType::kBF16 ? Bf16ToFloat(static_cast<const uint16_t*>(wire)[index])
                                 : static_cast<const float*>(wire)[index];
}

}  // namespace pregate::reference
