// LayersAtOnce: the step kernel, and the launches for more rows and other layers, have the bits of the
// halves of a layer, composed of operations.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/device/cuda/cuda_device.h"
#include "common/device/device_contract.h"
#include "common/device/rounding.h"

namespace pregate {
namespace {

constexpr StepTypes kTypes = kBF16Types;

struct StackShape {
  int layers, hidden, heads, kv_heads, head_dim, shared, own, experts;
};

// Random layers and sequences with keys and values of their past. Two copies of everything that a
// step writes: one for the layers at once, one for the layers in turn.
class StepKernelTest : public DeviceContractTest {
 protected:
  struct Copy {
    std::vector<LayerCall> layers;
    float* h;
  };

  void Make(const StackShape& s, int rows, int rows_max, int context_max,
            int sequences_max = 1 << 10) {
    rig_ = std::make_unique<Rig>(*devices_[0]);
    shape_ = s;
    rows_ = rows;
    sequences_ = Int(1, std::min(std::max(rows, 1), sequences_max));
    blocks_per_seq_ = (context_max + kKvBlockTokens - 1) / kKvBlockTokens;
    const float residual = Int(0, 1) == 1 ? 1 : 0.22f;
    ffn_ = {s.hidden, 1e-5f, residual, kTypes.act, kTypes.wire};
    PutBatch(rows_max, context_max);
    const std::vector<float> h = Floats(size_t(rows_max) * s.hidden);
    for (Copy& copy : copies_) copy = {{}, rig_->Put(h)};
    const float* inv_freq = rig_->Put(InvFreq());
    const int window = Int(0, 2) == 0 ? Int(1, context_max) : 0;
    for (int l = 0; l < s.layers; ++l) PutLayer(inv_freq, window, residual);
    const WorkspaceShape workspace = {.attention = copies_[0].layers[0].attention,
                                      .has_own = s.own > 0,
                                      .act_bytes = 2,
                                      .tokens_max = rows_max,
                                      .logits_rows_max = 1,
                                      .vocab_size = 8};
    workspace_ = LayerWorkspace::At(rig_->Bytes(LayerWorkspace::Bytes(workspace)), workspace);
  }

  bool RunAtOnce() {
    return devices_[0]->LayersAtOnce(batch_, copies_[0].layers, ffn_, groups_, workspace_,
                                     copies_[0].h);
  }
  void RunInTurn() {
    for (const LayerCall& l : copies_[1].layers) {
      devices_[0]->AttentionHalf(batch_, l.attention, l.attention_weights, l.kv, workspace_,
                                 copies_[1].h);
      devices_[0]->FfnHalf(batch_.rows, ffn_, l.ffn, groups_, l.units, workspace_, copies_[1].h);
    }
  }
  std::vector<float> Rows(int copy) {
    return rig_->Get(copies_[copy].h, size_t(rows_) * shape_.hidden);
  }
  std::vector<uint16_t> Kv(int copy, int layer) {
    const KvLayer& kv = copies_[copy].layers[layer].kv;
    return rig_->Get(static_cast<const uint16_t*>(kv.data), KvElements());
  }
  void ExpectSame(const std::string& what) {
    const std::vector<float> got = Rows(0), want = Rows(1);
    ASSERT_TRUE(SameBits(got, want))
        << what << ": relative difference " << RelativeError(got, want);
    for (int l = 0; l < shape_.layers; ++l) ASSERT_EQ(Kv(0, l), Kv(1, l)) << what;
  }

  std::unique_ptr<Rig> rig_;
  StackShape shape_;
  int rows_ = 0, sequences_ = 0, blocks_per_seq_ = 0;
  TokenBatch batch_;
  ExpertGroups groups_;
  FfnShape ffn_;
  LayerWorkspace workspace_;
  Copy copies_[2];

 private:
  std::vector<float> InvFreq() {
    std::vector<float> out;
    for (int i = 0; i < shape_.head_dim / 2; ++i) {
      out.push_back(std::pow(10000.0f, -2.0f * i / shape_.head_dim));
    }
    return out;
  }
  size_t KvElements() const {
    return size_t{2} * sequences_ * blocks_per_seq_ * shape_.kv_heads * kKvBlockTokens *
           shape_.head_dim;
  }
  Matrix RandomMatrix(int outputs, int inputs) {
    return rig_->PutMatrix(
        Weights(size_t(outputs) * inputs, 1 / std::sqrt(static_cast<float>(inputs))), outputs,
        inputs, kTypes.weights);
  }
  const void* RandomUnit(const UnitShape& unit) {
    const size_t n = size_t(unit.width) * unit.hidden;
    const float in = 1 / std::sqrt(static_cast<float>(unit.hidden));
    const float down = 1 / std::sqrt(static_cast<float>(std::max(unit.width, 1)));
    return rig_->PutUnit(Weights(n, in), Weights(n, in), Weights(n, down), unit);
  }

  // Uniform: at the shapes of real models normal numbers take longer than the card.
  std::vector<float> Weights(size_t n, float sigma) {
    std::vector<float> values(n);
    uint64_t state = random_();
    for (float& x : values) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      x = static_cast<float>(static_cast<int64_t>(state) >> 40) * (0x1p-23f * 1.7f) * sigma;
    }
    return values;
  }
  // Positions of a sequence follow one another, as those of drafts and of short chunks do.
  void PutBatch(int rows_max, int context_max) {
    std::vector<int32_t> next(sequences_), positions(rows_max), slots(rows_max), routes(rows_max);
    for (int& position : next) position = Int(0, context_max - 1 - rows_);
    for (int r = 0; r < rows_; ++r) {
      slots[r] = r < sequences_ ? r : Int(0, sequences_ - 1);
      routes[r] = Int(0, shape_.experts - 1);
    }
    std::sort(slots.begin(), slots.begin() + rows_);
    for (int r = 0; r < rows_; ++r) positions[r] = next[slots[r]]++;
    std::vector<int32_t> tables;
    for (const int block : Shuffled(sequences_ * blocks_per_seq_)) tables.push_back(block);
    batch_ = {.rows = {rig_->Put<int32_t>({rows_}), rows_max},
              .positions = rig_->Put(positions),
              .seq_slots = rig_->Put(slots),
              .block_tables = rig_->Put(tables),
              .blocks_per_seq = blocks_per_seq_};
    groups_ = {rig_->Put(std::vector<int32_t>(shape_.experts + 1)),
               rig_->Put(std::vector<int32_t>(rows_max)), shape_.experts};
    devices_[0]->BuildGroups(batch_.rows, rig_->Put(routes), groups_);
  }

  void PutLayer(const float* inv_freq, int window, float residual) {
    const StackShape& s = shape_;
    LayerCall call;
    call.attention = {.hidden = s.hidden,
                      .num_heads = s.heads,
                      .num_kv_heads = s.kv_heads,
                      .head_dim = s.head_dim,
                      .norm_eps = 1e-5f,
                      .scale = 1 / std::sqrt(static_cast<float>(s.head_dim)),
                      .window = window,
                      .residual = residual,
                      .act = kTypes.act};
    if (Int(0, 3) > 0) call.attention.rope = {s.head_dim, inv_freq, 1.1f};
    call.attention_weights.norm = rig_->Put(Floats(s.hidden));
    call.attention_weights.qkv = RandomMatrix(call.attention.qkv_width(), s.hidden);
    call.attention_weights.o = RandomMatrix(s.hidden, call.attention.q_width());
    call.ffn.norm = rig_->Put(Floats(s.hidden));
    call.ffn.shared = {s.shared, s.hidden, kTypes.weights};
    if (s.shared > 0) {
      call.ffn.shared_unit = rig_->Put(std::vector<const void*>{RandomUnit(call.ffn.shared)});
    }
    call.ffn.own = {s.own, s.hidden, kTypes.weights};
    std::vector<const void*> units;
    for (int e = 0; e < s.experts && s.own > 0; ++e) units.push_back(RandomUnit(call.ffn.own));
    if (s.own > 0) call.units = rig_->Put(units);
    std::vector<uint16_t> kv;
    for (const float x : Floats(KvElements())) kv.push_back(Bf16Bits(x));
    for (Copy& copy : copies_) {
      call.kv = {rig_->Put(kv), sequences_ * blocks_per_seq_, s.kv_heads, s.head_dim, kTypes.kv};
      copy.layers.push_back(call);
    }
  }
};

TEST_P(StepKernelTest, HasTheBitsOfTheHalvesInTurn) {
  for (int round = 0; round < 24; ++round) {
    const int kv_heads = Int(1, 4), group = Int(1, 4);
    const int parts = Int(0, 2);
    const StackShape s = {.layers = Int(1, 4),
                          .hidden = 16 * Int(1, 40),
                          .heads = kv_heads * group,
                          .kv_heads = kv_heads,
                          .head_dim = 16 * Int(1, 8),
                          .shared = parts == 1 ? 0 : 16 * Int(1, 20),
                          .own = parts == 2 ? 0 : 16 * Int(1, 20),
                          .experts = Int(1, 9)};
    const int rows = Int(1, 8), rows_max = Int(rows, 8), context = Int(20, 700);
    Make(s, rows, rows_max, context);
    ASSERT_TRUE(RunAtOnce());
    RunInTurn();
    ExpectSame(absl::StrCat("round ", round, " layers ", s.layers, " hidden ", s.hidden, " heads ",
                            s.heads, "/", s.kv_heads, " x ", s.head_dim, " shared ", s.shared,
                            " own ", s.own, " experts ", s.experts, " rows ", rows, " of ",
                            rows_max, " context ", context));
  }
}

// The paper's shape, few layers.
TEST_P(StepKernelTest, HasThemAtTheShapesOfRealModels) {
  for (const StackShape& s : {StackShape{1, 4096, 32, 32, 128, 2752, 2752, 3},
                              {3, 576, 9, 3, 64, 384, 384, 5},
                              {1, 4096, 32, 8, 128, 0, 4096, 2}}) {
    for (const int rows : {1, 8}) {
      Make(s, rows, rows, 2000);
      ASSERT_TRUE(RunAtOnce());
      RunInTurn();
      ExpectSame(absl::StrCat("hidden ", s.hidden, " rows ", rows));
    }
  }
}

// More tiles of a row than are added up at a time.
TEST_P(StepKernelTest, LongContextsHaveTheBitsOfTheHalvesInTurn) {
  for (const int head_dim : {64, 128}) {
    for (const int rows : {1, 5}) {
      Make({2, 256, 6, 2, head_dim, 32, 32, 3}, rows, rows, 9000, 2);
      ASSERT_TRUE(RunAtOnce());
      RunInTurn();
      ExpectSame(absl::StrCat("head_dim ", head_dim, " rows ", rows));
    }
  }
}

// Capacities hold rows; the count on the card may be 0.
TEST_P(StepKernelTest, NoRowsAreLeftAlone) {
  for (const int shared : {0, 32}) {
    Make({2, 64, 4, 2, 32, shared, 32, 3}, 0, 4, 100);
    const std::vector<float> before = rig_->Get(copies_[0].h, 4 * 64);
    ASSERT_TRUE(RunAtOnce());
    EXPECT_TRUE(SameBits(before, rig_->Get(copies_[0].h, 4 * 64))) << "shared " << shared;
  }
}

// Around the numbers of rows at which other kernels take over.
TEST_P(StepKernelTest, MoreRowsHaveTheBitsOfTheHalvesInTurn) {
  for (const int most : {9, 32, 33, 64, 65, 130, 600}) {
    const int kv_heads = Int(1, 2), group = Int(1, 4), parts = Int(0, 2);
    const StackShape s = {.layers = 2,
                          .hidden = 16 * Int(1, 40),
                          .heads = kv_heads * group,
                          .kv_heads = kv_heads,
                          .head_dim = 16 * Int(1, 8),
                          .shared = parts == 1 ? 0 : 16 * Int(1, 20),
                          .own = parts == 2 ? 0 : 16 * Int(1, 20),
                          .experts = Int(1, 9)};
    const int rows = Int(std::max(most - 40, 9), most);
    Make(s, rows, most, rows + Int(20, 100), 6);
    ASSERT_TRUE(RunAtOnce());
    RunInTurn();
    ExpectSame(absl::StrCat("layers ", s.layers, " hidden ", s.hidden, " heads ", s.heads, "/",
                            s.kv_heads, " x ", s.head_dim, " shared ", s.shared, " own ", s.own,
                            " experts ", s.experts, " rows ", rows, " of ", most));
  }
}

// As many as clusters make heads of, where heads fill whole boxes of theirs.
TEST_P(StepKernelTest, PromptsHaveTheBitsOfTheHalvesInTurn) {
  for (const int head_dim : {32, 64, 128}) {
    for (int round = 0; round < 3; ++round) {
      const int kv_heads = Int(1, 3), most = 1100;
      const StackShape s = {.layers = 2,
                            .hidden = 16 * Int(1, 40),
                            .heads = kv_heads * Int(1, 3),
                            .kv_heads = kv_heads,
                            .head_dim = head_dim,
                            .shared = 16 * Int(1, 20),
                            .own = 16 * Int(1, 20),
                            .experts = Int(1, 7)};
      const int rows = Int(1000, most);
      Make(s, rows, most, rows + Int(20, 100), 6);
      ASSERT_TRUE(RunAtOnce());
      RunInTurn();
      ExpectSame(absl::StrCat("hidden ", s.hidden, " heads ", s.heads, "/", s.kv_heads, " x ",
                              s.head_dim, " shared ", s.shared, " own ", s.own, " experts ",
                              s.experts, " rows ", rows));
    }
  }
}

// What neither the step kernel nor fused products know.
TEST_P(StepKernelTest, LayersOfAnyKindHaveTheBitsOfTheHalvesInTurn) {
  const std::vector<float> bias = Floats(1024);
  const std::function<void(LayerCall&)> changes[] = {
      [&](LayerCall& l) { l.attention_weights.qkv_bias = rig_->Put(bias); },
      [&](LayerCall& l) { l.attention_weights.o_bias = rig_->Put(bias); },
      [&](LayerCall& l) {
        l.attention_weights.head_norms = {rig_->Put(bias), rig_->Put(bias)};
      },
      [&](LayerCall& l) { ++l.attention.window; },
      [&](LayerCall& l) { l.attention.norm_eps = 1; },
      [&](LayerCall& l) {
        l.attention.rope = {8, rig_->Put(bias), 1};
      },
      [&](LayerCall& l) { l.attention.rope = {}; },
  };
  for (const int rows : {2, 20}) {
    for (size_t i = 0; i < std::size(changes); ++i) {
      Make({2, 64, 4, 2, 32, 32, 32, 3}, rows, rows + 2, 100);
      LayerCall changed = copies_[0].layers.back();
      changes[i](changed);
      for (Copy& copy : copies_) {
        const KvLayer kv = copy.layers.back().kv;
        copy.layers.back() = changed;
        copy.layers.back().kv = kv;
      }
      ASSERT_TRUE(RunAtOnce());
      RunInTurn();
      ExpectSame(absl::StrCat("rows ", rows, " change ", i));
    }
  }
}

// Widths that are no multiples of 16, and more rows than it takes.
TEST_P(StepKernelTest, ShapesThatItDoesNotTakeHaveTheBitsOfTheHalvesInTurn) {
  for (const StackShape& s : {StackShape{2, 64, 4, 2, 32, 32, 24, 3},
                              {2, 64, 4, 2, 32, 40, 32, 3},
                              {2, 72, 4, 2, 32, 32, 32, 3},
                              {2, 64, 4, 2, 24, 32, 32, 3}}) {
    for (const int rows : {2, 9}) {
      Make(s, rows, rows, 100);
      ASSERT_TRUE(RunAtOnce());
      RunInTurn();
      ExpectSame(absl::StrCat("hidden ", s.hidden, " head_dim ", s.head_dim, " shared ", s.shared,
                              " own ", s.own, " rows ", rows));
    }
  }
}

// A graph of what RunAtOnce enqueues.
class LayersGraph {
 public:
  LayersGraph(CudaDevice& device, const std::function<void()>& enqueue)
      : stream_(static_cast<cudaStream_t>(device.stream())) {
    const int64_t before = device.counts().launches;
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
    enqueue();
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    launches_ = device.counts().launches - before;
    EXPECT_EQ(cudaGraphInstantiate(&graph_, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
  }
  ~LayersGraph() { cudaGraphExecDestroy(graph_); }
  int64_t launches() const { return launches_; }
  void Run() { EXPECT_EQ(cudaGraphLaunch(graph_, stream_), cudaSuccess); }

 private:
  const cudaStream_t stream_;
  cudaGraphExec_t graph_ = nullptr;
  int64_t launches_ = 0;
};

// Each launch begins with the counts of barriers and tiles that the one before it left, whoever made it.
TEST_P(StepKernelTest, AGraphLaunchedAgainHasTheBitsOfTheHalvesInTurn) {
  auto& device = dynamic_cast<CudaDevice&>(*devices_[0]);
  int card_major = 0;
  ASSERT_EQ(
      cudaDeviceGetAttribute(&card_major, cudaDevAttrComputeCapabilityMajor, device.ordinal()),
      cudaSuccess);
  for (const int layers : {1, 3}) {
    Make({layers, 64, 4, 2, 32, 32, 32, 3}, 5, 8, 300);
    const auto run_in_turn = [&](const std::string& what) {
      RunInTurn();
      ExpectSame(absl::StrCat("layers ", layers, " ", what));
    };
    ASSERT_TRUE(RunAtOnce());  // sizes scratch and brings the table of layers
    run_in_turn("launched");
    LayersGraph graph(device, [&] { ASSERT_TRUE(RunAtOnce()); });
    EXPECT_EQ(graph.launches() == 1, card_major >= 9) << graph.launches() << " launches";
    for (const char* time : {"first", "second"}) {
      graph.Run();
      run_in_turn(absl::StrCat("graph, ", time));
    }
    ASSERT_TRUE(RunAtOnce());
    run_in_turn("launched behind graphs");
    graph.Run();
    run_in_turn("graph behind a launch");

    // Of these layers there is no table yet, and a graph does not bring it.
    std::swap(copies_[0], copies_[1]);
    LayersGraph other(device, [&] { ASSERT_TRUE(RunAtOnce()); });
    EXPECT_GT(other.launches(), 1);
    other.Run();
    run_in_turn("graph of launches");
  }
}

TEST_P(StepKernelTest, LayersWhoseUnitsAreNotThereAreRefused) {
  for (const int rows : {2, 20}) {
    Make({2, 64, 4, 2, 32, 32, 32, 3}, rows, rows, 100);
    copies_[0].layers.back().units = nullptr;
    const std::vector<float> before = Rows(0);
    EXPECT_FALSE(RunAtOnce());
    EXPECT_TRUE(SameBits(before, Rows(0)));
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(StepKernelTest);
INSTANTIATE_TEST_SUITE_P(Devices, StepKernelTest, testing::ValuesIn(FamiliesUnderTest()),
                         FamilyName);

}  // namespace
}  // namespace pregate
