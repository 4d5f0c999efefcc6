// Contract of Device: norms of heads, rotary embedding, the paged KV store and attention.
#include <algorithm>
#include <map>
#include <numeric>

#include "common/device/device_contract.h"

namespace pregate {
namespace {

struct Shape {
  int num_heads, num_kv_heads, head_dim;
  int rope_dims = head_dim;
  float rope_scale = 1;
  int window = 0;
  bool head_norms = false;
  int qkv_width() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
  int q_width() const { return num_heads * head_dim; }
};

// One sequence's projections at each position.
struct Sequence {
  int length = 0;
  std::vector<float> qkv;  // [length, qkv_width]
};

struct Piece {  // rows of one step: positions [first, first + count) of a sequence
  int sequence, first, count;
};

// Runs steps over a paged layer whose blocks are dealt out at random.
class PagedRun {
 public:
  PagedRun(ComposedDevice& device, const Shape& shape, const StepTypes& types, int num_sequences,
           int blocks_per_seq, const std::vector<int>& block_order, int spare_blocks)
      : rig_(device), shape_(shape), types_(types), blocks_per_seq_(blocks_per_seq) {
    const int num_blocks = num_sequences * blocks_per_seq + spare_blocks;
    kv_ = {
        rig_.Bytes(device.KvLayerBytes(num_blocks, shape.num_kv_heads, shape.head_dim, types.kv)),
        num_blocks, shape.num_kv_heads, shape.head_dim, types.kv};
    std::vector<int32_t> table(num_sequences * blocks_per_seq);
    std::copy_n(block_order.begin(), table.size(), table.begin());
    table_ = rig_.Put(table);
    std::vector<float> inv_freq, norm;
    for (int i = 0; i < shape.rope_dims / 2; ++i) {
      inv_freq.push_back(std::pow(10000.0f, -2.0f * i / shape.rope_dims));
    }
    for (int i = 0; i < shape.head_dim; ++i) norm.push_back(0.5f + 0.1f * (i % 11));
    rope_ = {shape.rope_dims, rig_.Put(inv_freq), shape.rope_scale};
    if (shape.head_norms) head_norms_.q = rig_.Put(norm);
    std::reverse(norm.begin(), norm.end());
    if (shape.head_norms) head_norms_.k = rig_.Put(norm);
  }

  // Attention outputs of the step's rows, keyed by (sequence, position).
  void Step(const std::vector<Sequence>& sequences, const std::vector<Piece>& pieces,
            std::map<std::pair<int, int>, std::vector<float>>& outputs) {
    ComposedDevice& device = rig_.device();
    std::vector<int32_t> positions, slots;
    std::vector<float> qkv;
    for (const Piece& p : pieces) {
      for (int i = p.first; i < p.first + p.count; ++i) {
        positions.push_back(i);
        slots.push_back(p.sequence);
        const float* row = sequences[p.sequence].qkv.data() + int64_t{i} * shape_.qkv_width();
        qkv.insert(qkv.end(), row, row + shape_.qkv_width());
      }
    }
    TokenBatch batch;
    batch.rows = rig_.Rows(static_cast<int>(positions.size()));
    batch.positions = rig_.Put(positions);
    batch.seq_slots = rig_.Put(slots);
    batch.block_tables = table_;
    batch.blocks_per_seq = blocks_per_seq_;
    const AttentionShape attention = {.num_heads = shape_.num_heads,
                                      .num_kv_heads = shape_.num_kv_heads,
                                      .head_dim = shape_.head_dim,
                                      .norm_eps = 1e-5f,
                                      .scale = 0.2f,
                                      .rope = rope_,
                                      .window = shape_.window,
                                      .act = types_.act};
    float* q = static_cast<float*>(rig_.Bytes(size_t{4} * batch.rows.max * shape_.q_width()));
    void* out = rig_.Bytes(device.act_bytes(types_.act) * batch.rows.max * shape_.q_width());
    device.RotateAndStore(batch, attention, head_norms_, rig_.Put(qkv), kv_, q);
    device.Attention(batch, attention, q, kv_, out);
    const std::vector<float> all =
        rig_.GetAct(out, positions.size() * shape_.q_width(), types_.act);
    for (size_t r = 0; r < positions.size(); ++r) {
      const auto begin = all.begin() + r * shape_.q_width();
      outputs[{slots[r], positions[r]}] = {begin, begin + shape_.q_width()};
    }
  }

 private:
  Rig rig_;
  Shape shape_;
  StepTypes types_;
  int blocks_per_seq_;
  KvLayer kv_;
  const int32_t* table_;
  RopeShape rope_;
  HeadNorms head_norms_;
};

using Outputs = std::map<std::pair<int, int>, std::vector<float>>;

class DeviceAttentionContractTest : public DeviceContractTest {
 protected:
  std::vector<Sequence> MakeSequences(const Shape& shape, const std::vector<int>& lengths) {
    std::vector<Sequence> sequences;
    for (const int n : lengths) sequences.push_back({n, Floats(size_t(n) * shape.qkv_width())});
    return sequences;
  }

  // Of every trait, some value.
  Shape Varied(Shape shape, int window_max) {
    shape.rope_dims = 2 * Int(0, shape.head_dim / 2);
    shape.rope_scale = static_cast<float>(Int(1, 5)) / 4;
    shape.window = Int(1, window_max);
    shape.head_norms = Int(0, 1) == 1;
    return shape;
  }

  // Every sequence to its end, in random chunks, interleaved at random, on blocks placed at random.
  Outputs RunInChunks(ComposedDevice& device, const Shape& shape, const StepTypes& types,
                      const std::vector<Sequence>& sequences, int chunk_max) {
    int longest = 0;
    for (const Sequence& s : sequences) longest = std::max(longest, s.length);
    const int blocks = (longest + kKvBlockTokens - 1) / kKvBlockTokens;
    const int n = static_cast<int>(sequences.size());
    PagedRun run(device, shape, types, n, blocks, Shuffled(n * blocks + 5), 5);
    std::vector<int> done(n);
    Outputs outputs;
    while (true) {
      std::vector<Piece> pieces;
      for (const int s : Shuffled(n)) {
        const int count = std::min(Int(0, chunk_max), sequences[s].length - done[s]);
        if (count == 0) continue;
        pieces.push_back({s, done[s], count});
        done[s] += count;
      }
      run.Step(sequences, pieces, outputs);
      const int left =
          std::inner_product(sequences.begin(), sequences.end(), done.begin(), 0, std::plus<>(),
                             [](const Sequence& s, int d) { return s.length - d; });
      if (left == 0) return outputs;
    }
  }
};

TEST_P(DeviceAttentionContractTest, AgreesWithTheReference) {
  const Shape plain[] = {{1, 1, 2}, {3, 1, 6}, {9, 3, 64}, {4, 4, 20}, {40, 1, 16}};
  std::vector<Shape> shapes(std::begin(plain), std::end(plain));
  for (const Shape& shape : plain) shapes.push_back(Varied(shape, 80));
  for (const Shape& shape : shapes) {
    for (const StepTypes& types : StepTypesUnderTest()) {
      const auto sequences = MakeSequences(shape, {1, Int(2, 40), Int(2, 70)});
      const Outputs a = RunInChunks(*devices_.back(), shape, types, sequences, 30);
      const Outputs b = RunInChunks(*reference_, shape, types, sequences, 30);
      std::vector<float> flat_a, flat_b;
      for (const auto& [key, row] : a) flat_a.insert(flat_a.end(), row.begin(), row.end());
      for (const auto& [key, row] : b) flat_b.insert(flat_b.end(), row.begin(), row.end());
      EXPECT_LT(RelativeError(flat_a, flat_b), types.kv == KvType::kBF16 ? 4e-3 : 2e-6)
          << shape.num_heads << " heads of " << shape.head_dim << ", " << shape.rope_dims
          << " turned, window " << shape.window << ", norms " << shape.head_norms;
    }
  }
}

TEST_P(DeviceAttentionContractTest, ChunkingAndPlacementDoNotShowInTheBits) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    Shape shape = {6, 2, 2 * Int(1, 20)};
    if (Int(0, 1) == 1) shape = Varied(shape, 100);
    const auto sequences = MakeSequences(shape, {Int(1, 20), Int(20, 100), Int(100, 150)});
    const Outputs whole = RunInChunks(*devices_[0], shape, types, sequences, 1000);
    for (const int chunk_max : {1, 2, 7, 40}) {
      ComposedDevice& device = *devices_[chunk_max % devices_.size()];
      EXPECT_EQ(RunInChunks(device, shape, types, sequences, chunk_max), whole)
          << "chunks of up to " << chunk_max << ", window " << shape.window << " on "
          << device.name();
    }
  }
}

// Contexts beyond one merge chunk, a lone decode token (few tiles) and the same token among others.
TEST_P(DeviceAttentionContractTest, LongContextsKeepBitsInEveryBatch) {
  Shape shape = {2, 1, 16};
  const auto sequences = MakeSequences(shape, {1300, 700, 530, 40, 39, 38, 37, 36});
  for (const StepTypes& types : StepTypesUnderTest()) {
    shape.window = Int(0, 2) * Int(1, 600);  // none, or one of up to 1,200
    Outputs together, alone;
    const auto run = [&](ComposedDevice& device, bool batched, Outputs& outputs) {
      PagedRun paged(device, shape, types, 8, 82, Shuffled(8 * 82), 0);
      std::vector<Piece> last;
      for (int s = 0; s < 8; ++s) {
        paged.Step(sequences, {{s, 0, sequences[s].length - 1}}, outputs);
        last.push_back({s, sequences[s].length - 1, 1});
      }
      if (batched) return paged.Step(sequences, last, outputs);
      for (const Piece& p : last) paged.Step(sequences, {p}, outputs);
    };
    run(*devices_[0], true, together);
    for (const auto& device : devices_) {
      run(*device, false, alone);
      EXPECT_EQ(alone, together) << device->name() << ", window " << shape.window;
    }
    Outputs expected;
    run(*reference_, true, expected);
    for (int s = 0; s < 3; ++s) {
      const std::pair<int, int> end = {s, sequences[s].length - 1};
      EXPECT_LT(RelativeError(together[end], expected[end]),
                types.kv == KvType::kBF16 ? 5e-3 : 1e-5)
          << "window " << shape.window;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceAttentionContractTest,
                         testing::ValuesIn(FamiliesUnderTest()), FamilyName);

}  // namespace
}  // namespace pregate
