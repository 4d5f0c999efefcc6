// Contract of Device: the exchange between ranks, and copies beside the stream.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/device/device_contract.h"
#include "common/device/rounding.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

class DeviceExchangeContractTest : public DeviceContractTest {};

struct Exchange {
  std::vector<int32_t> send_rows, offsets, order;
  bool operator==(const Exchange&) const = default;
};

struct ExchangeCase {
  int world_size, num_experts, stride;
  std::vector<int32_t> home_ranks, routes, targets;
};

Exchange RunBuildExchange(ComposedDevice& device, const ExchangeCase& c, int rank) {
  Rig rig(device);
  const int slots = c.world_size * c.stride;
  const ExchangeArrays out = {rig.Put(std::vector<int32_t>(slots, 99)),
                              {rig.Put(std::vector<int32_t>(c.num_experts + 1)),
                               rig.Put(std::vector<int32_t>(slots)), c.num_experts}};
  device.BuildExchange(rig.Rows(static_cast<int>(c.routes.size())),
                       {rank, c.world_size, c.num_experts, c.stride, rig.Put(c.home_ranks),
                        rig.Put(c.routes), rig.Put(c.targets)},
                       out);
  Exchange result = {
      rig.Get(out.send_rows, slots), rig.Get(out.received.offsets, c.num_experts + 1), {}};
  result.order = rig.Get(out.received.order, result.offsets.back());
  return result;
}

TEST_P(DeviceExchangeContractTest, BuildExchangeAgreesWithTheReference) {
  for (int round = 0; round < 30; ++round) {
    ExchangeCase c = {Int(1, 4), Int(1, 9), 1, {}, {}, {}};
    std::vector<int> num_own(c.world_size);
    for (int t = Int(0, 200); t > 0; --t) {
      c.home_ranks.push_back(Int(0, c.world_size - 1));
      c.routes.push_back(Int(-1, c.num_experts - 1));
      c.stride = std::max(c.stride, ++num_own[c.home_ranks.back()]);
    }
    for (int i = 0; i < c.world_size * c.num_experts; ++i) {
      c.targets.push_back(Int(0, c.world_size - 1));
    }
    for (int rank = 0; rank < c.world_size; ++rank) {
      EXPECT_EQ(RunBuildExchange(*devices_[0], c, rank), RunBuildExchange(*reference_, c, rank));
    }
  }
}

// There and back again: what arrives is the rounded value, in its own row; padding touches nothing.
TEST_P(DeviceExchangeContractTest, RowsTravelOnTheWire) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const int width = Int(1, 600), rows = Int(1, 40);
    ComposedDevice& device = *devices_[0];
    Rig rig(device);
    const std::vector<float> x = Floats(size_t(rows) * width);
    std::vector<int32_t> index = Shuffled(rows);
    index.insert(index.begin() + Int(0, rows), -1);
    const RowCount wire_rows = rig.Rows(rows + 1);
    const size_t row_bytes = size_t(width) * ElementBytes(types.wire);
    void* wire = rig.Bytes(wire_rows.max * row_bytes);
    void* act = rig.Bytes(size_t(wire_rows.max) * width * device.act_bytes(types.act));
    float* out = rig.Put(std::vector<float>(size_t(rows) * width, -7.0f));

    device.ActToWire(wire_rows, width, types.act, rig.PutAct(x, types.act), rig.Put(index),
                     types.wire, wire);
    device.WireToAct(wire_rows, width, types.wire, wire, types.act, act);
    const std::vector<float> arrived = rig.GetAct(act, size_t(rows + 1) * width, types.act);
    device.WireToRows(wire_rows, width, types.wire, wire, rig.Put(index), out);
    const std::vector<float> back = rig.Get(out, x.size());
    for (int r = 0; r <= rows; ++r) {
      for (int i = 0; i < width; ++i) {
        const float sent = index[r] < 0 ? 0 : RoundTo(types.wire, x[size_t(index[r]) * width + i]);
        ASSERT_EQ(arrived[size_t(r) * width + i], sent) << "row " << r;
        if (index[r] >= 0) {
          ASSERT_EQ(back[size_t(index[r]) * width + i], sent);
        }
      }
    }

    const RowCount plain = rig.Rows(rows);
    device.RoundToWire(plain, width, rig.Put(x), types.wire, wire);
    const std::vector<char> rounded = rig.Get(static_cast<const char*>(wire), rows * row_bytes);
    std::vector<int32_t> own(rows);
    std::iota(own.begin(), own.end(), 0);
    device.ActToWire(plain, width, types.act, rig.PutAct(x, types.act), rig.Put(own), types.wire,
                     wire);
    EXPECT_EQ(rounded, rig.Get(static_cast<const char*>(wire), rows * row_bytes));
  }
}

// Two ranks in one process, on one device: each makes its part of the plan from routes that are
// only known on the device (late rows), and the bits are those of one rank that runs everything.
TEST_P(DeviceExchangeContractTest, TwoVirtualRanksWithLateRoutesGiveTheBitsOfOne) {
  constexpr int kWorld = 2, kExperts = 5;
  for (const StepTypes& types : StepTypesUnderTest()) {
    ComposedDevice& device = *devices_[0];
    Rig rig(device);
    const int tokens = Int(1, 60);
    const UnitShape shape = {Int(1, 70), Int(1, 70), types.weights};
    const int hidden = shape.hidden;
    const size_t n = size_t(shape.width) * hidden, value_bytes = ElementBytes(types.wire);
    std::vector<const void*> units;
    for (int e = 0; e < kExperts; ++e) {
      units.push_back(rig.PutUnit(Floats(n), Floats(n), Floats(n), shape));
    }
    const std::vector<float> x = Floats(size_t(tokens) * hidden);
    std::vector<int32_t> homes, planned, last_route, slots;
    std::vector<uint8_t> late;
    std::vector<std::vector<int>> own(kWorld);  // tokens by home
    for (int t = 0; t < tokens; ++t) {
      homes.push_back(Int(0, kWorld - 1));
      own[homes.back()].push_back(t);
      late.push_back(Int(0, 1));
      last_route.push_back(Int(0, kExperts - 1));
      planned.push_back(late.back() ? 0 : Int(0, kExperts - 1));
      slots.push_back(t);
    }
    const RowCount all = rig.Rows(tokens);
    std::vector<int32_t> room(all.max - tokens);  // arrays hold `max` rows
    const auto put = [&](std::vector<int32_t> values) {
      values.insert(values.end(), room.begin(), room.end());
      return rig.Put(values);
    };
    int32_t* routes = put(planned);
    late.resize(all.max);
    device.ResolveLate(all, rig.Put(late), put(slots), put(std::vector<int32_t>(tokens)),
                       put(last_route), put(std::vector<int32_t>(tokens)), routes);

    const ExpertGroups groups = {rig.Put(std::vector<int32_t>(kExperts + 1)),
                                 rig.Put(std::vector<int32_t>(all.max)), kExperts};
    device.BuildGroups(all, routes, groups);
    std::vector<float> padded = x;
    padded.resize(size_t(all.max) * hidden);
    float* one = rig.Put(std::vector<float>(padded.size()));
    device.ExpertFfn(all, types.act, rig.PutAct(padded, types.act), groups, rig.Put(units), shape,
                     one);
    std::vector<float> expected = rig.Get(one, x.size());
    for (float& value : expected) value = RoundTo(types.wire, value);

    const int stride = static_cast<int>(std::max({own[0].size(), own[1].size(), size_t{1}}));
    const int rows = kWorld * stride;
    const size_t message = size_t(stride) * hidden * value_bytes;
    const RowCount wire_rows = {rig.Put<int32_t>({rows}), rows};
    std::vector<int32_t> targets;
    for (int home = 0; home < kWorld; ++home) {
      for (int e = 0; e < kExperts; ++e) targets.push_back(e % kWorld);
    }
    struct Rank {
      ExchangeArrays plan;
      char *out, *in;  // wires
    };
    std::vector<Rank> ranks;
    const auto swap_messages = [&] {
      for (int s = 0; s < kWorld; ++s) {
        for (int d = 0; d < kWorld; ++d) {
          const std::vector<char> sent = rig.Get(ranks[s].out + d * message, message);
          device.Upload(ranks[d].in + s * message, sent.data(), message);
        }
      }
    };
    for (int r = 0; r < kWorld; ++r) {
      Rank rank = {{rig.Put(std::vector<int32_t>(rows)),
                    {rig.Put(std::vector<int32_t>(kExperts + 1)),
                     rig.Put(std::vector<int32_t>(rows)), kExperts}},
                   static_cast<char*>(rig.Bytes(kWorld * message)),
                   static_cast<char*>(rig.Bytes(kWorld * message))};
      device.BuildExchange(all, {r, kWorld, kExperts, stride, put(homes), routes, rig.Put(targets)},
                           rank.plan);
      std::vector<float> act = PickRows(x, hidden, own[r]);
      act.resize(size_t(stride) * hidden);
      device.ActToWire(wire_rows, hidden, types.act, rig.PutAct(act, types.act),
                       rank.plan.send_rows, types.wire, rank.out);
      ranks.push_back(rank);
    }
    swap_messages();
    for (int r = 0; r < kWorld; ++r) {
      void* received = rig.Bytes(size_t(rows) * hidden * device.act_bytes(types.act));
      float* run = rig.Put(std::vector<float>(size_t(rows) * hidden));
      std::vector<const void*> held = units;
      for (int e = 0; e < kExperts; ++e) {
        if (e % kWorld != r) held[e] = nullptr;
      }
      device.WireToAct(wire_rows, hidden, types.wire, ranks[r].in, types.act, received);
      device.ExpertFfn(wire_rows, types.act, received, ranks[r].plan.received, rig.Put(held), shape,
                       run);
      device.RoundToWire(wire_rows, hidden, run, types.wire, ranks[r].out);
    }
    swap_messages();
    for (int r = 0; r < kWorld; ++r) {
      float* back = rig.Put(std::vector<float>(size_t(stride) * hidden));
      device.WireToRows(wire_rows, hidden, types.wire, ranks[r].in, ranks[r].plan.send_rows, back);
      const std::vector<float> got = rig.Get(back, own[r].size() * hidden);
      EXPECT_TRUE(SameBits(got, PickRows(expected, hidden, own[r])))
          << "rank " << r << ", " << tokens << " tokens";
    }
  }
}

// Copies one after the other, and no more waits than there were calls of Await.
void ExpectSpans(const std::vector<TransferSpan>& spans, int num_copies) {
  int copies = 0, waits = 0;
  absl::Time copied = absl::InfinitePast();
  for (const TransferSpan& span : spans) {
    EXPECT_LE(span.begin, span.end);
    ++(span.is_wait ? waits : copies);
    if (span.is_wait) continue;
    // A card tells time in steps of half a microsecond.
    EXPECT_GE(span.begin, copied - absl::Microseconds(2));
    copied = span.end;
  }
  EXPECT_EQ(copies, num_copies);
  EXPECT_LE(waits, num_copies);
}

TEST_P(DeviceExchangeContractTest, MomentsFollowTheOperations) {
  ComposedDevice& device = *devices_[0];
  Rig rig(device);
  constexpr int kFloats = 1 << 18;
  float* x = rig.Put(std::vector<float>(kFloats));
  device.BeginMoments();
  for (int moment = 1; moment < kMomentsMax; ++moment) {
    device.AddResidual(rig.Rows(1), kFloats, x, 1, x);
    device.NoteMoment(moment);
  }
  ASSERT_TRUE(device.Synchronize().ok());
  for (int moment = 1; moment < kMomentsMax; ++moment) {
    EXPECT_GT(device.MomentOf(moment), device.MomentOf(moment - 1)) << "moment " << moment;
  }
  EXPECT_LT(device.MomentOf(kMomentsMax - 1) - device.MomentOf(0), absl::Minutes(1));
}

TEST_P(DeviceExchangeContractTest, SaysHowMuchMemoryThereIs) {
  const auto memory = devices_[0]->Memory();
  ASSERT_TRUE(memory.ok()) << memory.status();
  EXPECT_GT(memory->free_bytes, 0);
  EXPECT_LE(memory->free_bytes, memory->total_bytes);
}

TEST_P(DeviceExchangeContractTest, CopiesArriveInOrderBeforeWhatAwaitsThem) {
  ComposedDevice& device = *devices_[0];
  Rig rig(device);
  constexpr int kFloats = 1 << 18, kCopies = 6;
  DeviceBuffer host = *device.AllocateHost(size_t{4} * kFloats * kCopies);
  const std::vector<float> x = Floats(size_t{kFloats} * kCopies);
  std::memcpy(host.as<void>(), x.data(), x.size() * sizeof(float));
  float* slot = rig.Put(std::vector<float>(kFloats));
  float* sums = rig.Put(std::vector<float>(size_t{kFloats} * kCopies));
  const RowCount one = rig.Rows(1);
  device.BeginMoments();  // which spans are told from
  {
    const std::unique_ptr<TransferQueue> queue = device.MakeTransferQueue();
    // One slot: each copy overwrites what the operation before has read.
    for (int c = 0; c < kCopies; ++c) {
      const uint64_t mark = queue->Mark();
      const uint64_t number =
          queue->Copy(slot, host.as<float>() + size_t{kFloats} * c, size_t{4} * kFloats, mark);
      EXPECT_EQ(number, c + 1);
      queue->Await(number);
      device.AddResidual(one, kFloats, slot, 1, sums + size_t{kFloats} * c);
    }
    EXPECT_EQ(rig.Get(sums, x.size()), x);
    EXPECT_EQ(queue->num_done(), kCopies);
    EXPECT_GE(queue->stalled(), absl::ZeroDuration());
    ExpectSpans(queue->TakeSpans(), kCopies);
    EXPECT_TRUE(queue->TakeSpans().empty()) << "each once";
    queue->Copy(slot, host.as<void>(), size_t{4} * kFloats, 0);
  }  // the end waits for the last copy
  EXPECT_EQ(rig.Get(slot, kFloats), std::vector<float>(x.begin(), x.begin() + kFloats));
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceExchangeContractTest,
                         testing::ValuesIn(FamiliesUnderTest()), FamilyName);

}  // namespace
}  // namespace pregate
