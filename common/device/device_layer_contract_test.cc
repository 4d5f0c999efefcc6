// Contract of Device: the halves of a layer and the emit stage, on random layers.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "common/device/device_contract.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

constexpr int kExperts = 4, kSequences = 3, kBlocksPerSeq = 3, kRowsMax = 128;

struct HostMatrix {
  int outputs = 0, inputs = 0;
  std::vector<float> rows;
};
struct HostUnit {
  std::vector<float> gate, up, down;
};

// A layer and the sequences that run through it, in host memory. Empty biases and norms of heads are
// absent.
struct LayerCase {
  StepTypes types;
  AttentionShape attention;
  std::vector<float> inv_freq, attention_norm, qkv_bias, q_norm, k_norm, o_bias;
  HostMatrix qkv, o;
  FfnShape ffn;
  std::vector<float> ffn_norm;
  UnitShape shared_shape, own_shape;
  std::vector<HostUnit> shared, own;  // [1], [kExperts]; empty where the width is 0
  MlpShape mlp;
  std::vector<float> mlp_norm, proj_1_bias, proj_2_bias;
  HostMatrix proj_1, proj_2;
  EmitHead head;
  std::vector<float> head_norm, head_bias;
  HostMatrix logits;
  std::vector<int> lengths;                // [kSequences]
  std::vector<std::vector<float>> inputs;  // [kSequences][length * hidden]
  std::vector<std::vector<int32_t>> routes;
  std::vector<int32_t> block_tables;
};

struct Token {
  int sequence, position;
};
using Tokens = std::vector<Token>;
// Rows of the residual stream after a half, by (sequence, position).
using Results = std::map<std::pair<int, int>, std::vector<float>>;

std::vector<float> Flat(const Results& results) {
  std::vector<float> flat;
  for (const auto& [token, row] : results) flat.insert(flat.end(), row.begin(), row.end());
  return flat;
}

// A case on a device. Calls share one workspace, which holds what the calls before left there.
class Layer {
 public:
  Layer(ComposedDevice& device, const LayerCase& c)
      : device_(device), rig_(device), case_(c), attention_(c.attention), head_(c.head) {
    attention_.rope.inv_freq = rig_.Put(c.inv_freq);
    attention_weights_ = {rig_.Put(c.attention_norm),
                          Put(c.qkv),
                          PutBias(c.qkv_bias),
                          {PutBias(c.q_norm), PutBias(c.k_norm)},
                          Put(c.o),
                          PutBias(c.o_bias)};
    ffn_weights_ = {rig_.Put(c.ffn_norm), c.shared_shape, PutUnits(c.shared, c.shared_shape),
                    c.own_shape};
    for (const HostUnit& unit : c.own) own_units_.push_back(Put(unit, c.own_shape));
    mlp_weights_ = {rig_.Put(c.mlp_norm), Put(c.proj_1), PutBias(c.proj_1_bias), Put(c.proj_2),
                    PutBias(c.proj_2_bias)};
    head_.norm = rig_.Put(c.head_norm);
    head_.logits = Put(c.logits);
    head_.bias = PutBias(c.head_bias);
    MakeWorkspace();
    MakeKv();
  }

  // One call of `half` on the tokens' inputs.
  template <class Half>
  void Run(const Tokens& tokens, const Half& half, Results& results) {
    const TokenBatch batch = PutBatch(tokens);
    const int hidden = case_.attention.hidden;
    float* h = rig_.Put(Inputs(tokens, batch.rows.max));
    half(tokens, batch, h);
    const std::vector<float> out = rig_.Get(h, tokens.size() * hidden);
    for (size_t r = 0; r < tokens.size(); ++r) {
      const auto begin = out.begin() + r * hidden;
      results[{tokens[r].sequence, tokens[r].position}] = {begin, begin + hidden};
    }
  }

  void AttentionHalf(const TokenBatch& batch, float* h) {
    device_.AttentionHalf(batch, attention_, attention_weights_, kv_, workspace_, h);
  }
  void StoreKv(const TokenBatch& batch, const float* h) {
    device_.StoreKv(batch, attention_, attention_weights_, kv_, workspace_, h);
  }
  void FfnHalf(const Tokens& tokens, const TokenBatch& batch, float* h) {
    device_.FfnHalf(batch.rows, case_.ffn, ffn_weights_, Groups(tokens, batch.rows),
                    rig_.Put(own_units_), workspace_, h);
  }
  // The same in parts: wave w runs the experts with waves[e] == w.
  void FfnInWaves(const Tokens& tokens, const TokenBatch& batch, const std::vector<int>& waves,
                  float* h) {
    device_.FfnBegin(batch.rows, case_.ffn, ffn_weights_, workspace_, h);
    const ExpertGroups groups = Groups(tokens, batch.rows);
    for (int w = 0; w < kExperts && !own_units_.empty(); ++w) {
      std::vector<const void*> units = own_units_;
      for (int e = 0; e < kExperts; ++e) {
        if (waves[e] != w) units[e] = nullptr;
      }
      device_.ExpertFfn(batch.rows, case_.ffn.act, workspace_.act, groups, rig_.Put(units),
                        case_.own_shape, workspace_.own);
    }
    device_.FfnEnd(batch.rows, case_.ffn, ffn_weights_, workspace_, h);
  }
  void Mlp(const TokenBatch& batch, float* h) {
    device_.Mlp(batch.rows, case_.mlp, mlp_weights_, workspace_, h);
  }
  // Fills args.rows, index (rows of the tokens; empty: all of them) and logits; returns the logits.
  std::vector<float> Emit(const Tokens& tokens, const std::vector<int32_t>& index, EmitArgs& args) {
    const float* h = rig_.Put(Inputs(tokens, static_cast<int>(tokens.size()) + 3));
    const int rows = static_cast<int>(index.empty() ? tokens.size() : index.size());
    args.rows = rig_.Rows(rows);
    std::vector<int32_t> padded = index;
    padded.resize(args.rows.max);
    args.index = index.empty() ? nullptr : rig_.Put(padded);
    args.logits = workspace_.logits;
    device_.Emit(head_, args, workspace_, h);
    return rig_.Get(args.logits, size_t(rows) * head_.logits.outputs);
  }
  Rig& rig() { return rig_; }

 private:
  Matrix Put(const HostMatrix& m) {
    return rig_.PutMatrix(m.rows, m.outputs, m.inputs, case_.types.weights);
  }
  const void* Put(const HostUnit& unit, const UnitShape& shape) {
    return rig_.PutUnit(unit.gate, unit.up, unit.down, shape);
  }
  const float* PutBias(const std::vector<float>& bias) {
    return bias.empty() ? nullptr : rig_.Put(bias);
  }
  const void* const* PutUnits(const std::vector<HostUnit>& units, const UnitShape& shape) {
    std::vector<const void*> table;
    for (const HostUnit& unit : units) table.push_back(Put(unit, shape));
    return table.empty() ? nullptr : rig_.Put(table);
  }
  void MakeWorkspace() {
    const WorkspaceShape shape = {.attention = case_.attention,
                                  .mlp_width = case_.proj_1.outputs,
                                  .has_own = case_.own_shape.width > 0,
                                  .act_bytes = device_.act_bytes(case_.types.act),
                                  .tokens_max = kRowsMax,
                                  .logits_rows_max = kRowsMax,
                                  .vocab_size = case_.logits.outputs};
    workspace_ = LayerWorkspace::At(rig_.Bytes(LayerWorkspace::Bytes(shape)), shape);
  }
  void MakeKv() {
    const AttentionShape& a = case_.attention;
    const int num_blocks = static_cast<int>(case_.block_tables.size());
    kv_ = {rig_.Bytes(device_.KvLayerBytes(num_blocks, a.num_kv_heads, a.head_dim, case_.types.kv)),
           num_blocks, a.num_kv_heads, a.head_dim, case_.types.kv};
    block_tables_ = rig_.Put(case_.block_tables);
  }
  TokenBatch PutBatch(const Tokens& tokens) {
    TokenBatch batch;
    batch.rows = rig_.Rows(static_cast<int>(tokens.size()));
    std::vector<int32_t> positions, slots;
    for (const Token& t : tokens) {
      positions.push_back(t.position);
      slots.push_back(t.sequence);
    }
    positions.resize(batch.rows.max);
    slots.resize(batch.rows.max);
    batch.positions = rig_.Put(positions);
    batch.seq_slots = rig_.Put(slots);
    batch.block_tables = block_tables_;
    batch.blocks_per_seq = kBlocksPerSeq;
    return batch;
  }
  std::vector<float> Inputs(const Tokens& tokens, int rows_max) const {
    const int hidden = case_.attention.hidden;
    std::vector<float> rows;
    for (const Token& t : tokens) {
      const auto begin = case_.inputs[t.sequence].begin() + int64_t{t.position} * hidden;
      rows.insert(rows.end(), begin, begin + hidden);
    }
    rows.resize(size_t(rows_max) * hidden);
    return rows;
  }
  ExpertGroups Groups(const Tokens& tokens, RowCount rows) {
    std::vector<int32_t> routes;
    for (const Token& t : tokens) routes.push_back(case_.routes[t.sequence][t.position]);
    routes.resize(rows.max);
    const ExpertGroups groups = {rig_.Put(std::vector<int32_t>(kExperts + 1)),
                                 rig_.Put(std::vector<int32_t>(rows.max)), kExperts};
    device_.BuildGroups(rows, rig_.Put(routes), groups);
    return groups;
  }

  ComposedDevice& device_;
  Rig rig_;
  const LayerCase& case_;
  AttentionShape attention_;
  AttentionWeights attention_weights_;
  FfnWeights ffn_weights_;
  std::vector<const void*> own_units_;
  MlpWeights mlp_weights_;
  EmitHead head_;
  LayerWorkspace workspace_;
  KvLayer kv_;
  const int32_t* block_tables_ = nullptr;
};

class DeviceLayerContractTest : public DeviceContractTest {
 protected:
  // Random shapes; biases, norms of heads, windows and multipliers are there half of the time.
  LayerCase MakeCase(const StepTypes& types) { return MakeCase(types, Int(0, 60), Int(0, 60)); }
  LayerCase MakeCase(const StepTypes& types, int shared_width, int own_width) {
    LayerCase c;
    c.types = types;
    const int hidden = Int(1, 90), kv_heads = Int(1, 3), half = Int(1, 20);
    AddAttention(hidden, kv_heads * Int(1, 4), kv_heads, 2 * half, c);
    c.ffn = {hidden, 1e-5f, Int(0, 1) == 1 ? 1 : 0.22f, types.act, types.wire};
    c.ffn_norm = Floats(hidden);
    c.shared_shape = {shared_width, hidden, types.weights};
    c.own_shape = {own_width, hidden, types.weights};
    if (shared_width > 0) c.shared = {RandomUnit(c.shared_shape)};
    for (int e = 0; e < kExperts && own_width > 0; ++e) c.own.push_back(RandomUnit(c.own_shape));
    const int mlp_width = Int(1, 120), vocab = Int(1, 300);
    c.mlp = {hidden, 1e-6f, Int(0, 1) == 1 ? RouterActivation::kSilu : RouterActivation::kRelu,
             types.act};
    c.mlp_norm = Floats(hidden);
    c.proj_1 = RandomMatrix(mlp_width, hidden);
    c.proj_2 = RandomMatrix(hidden, mlp_width);
    c.proj_1_bias = MaybeBias(mlp_width);
    c.proj_2_bias = MaybeBias(hidden);
    c.head.norm_eps = 1e-5f;
    c.head.act = types.act;
    c.head_norm = Floats(hidden);
    c.logits = RandomMatrix(vocab, hidden);
    c.head_bias = MaybeBias(vocab);
    AddSequences(c);
    return c;
  }
  // Every token once: sequences in order, or in random chunks that interleave.
  Tokens All(const LayerCase& c) {
    Tokens tokens;
    for (int s = 0; s < kSequences; ++s) {
      for (int i = 0; i < c.lengths[s]; ++i) tokens.push_back({s, i});
    }
    return tokens;
  }
  std::vector<Tokens> Chunks(const LayerCase& c, int chunk_max) {
    std::vector<int> done(kSequences);
    std::vector<Tokens> chunks;
    while (done != c.lengths) {
      Tokens chunk;
      for (const int s : Shuffled(kSequences)) {
        const int end = std::min(c.lengths[s], done[s] + Int(0, chunk_max));
        while (done[s] < end) chunk.push_back({s, done[s]++});
      }
      if (!chunk.empty()) chunks.push_back(chunk);
    }
    return chunks;
  }
  // `half(layer)(tokens, batch, h)` on all tokens at once on each device: equal bits in chunks of
  // every size, and close to the reference.
  template <class Half>
  void ExpectContract(const LayerCase& c, const Half& half) {
    Results whole, expected;
    Layer first(*devices_[0], c), reference(*reference_, c);
    first.Run(All(c), half(first), whole);
    reference.Run(All(c), half(reference), expected);
    EXPECT_LT(RelativeError(Flat(whole), Flat(expected)), Tolerance(c.types));
    for (const auto& device : devices_) {
      for (const int chunk_max : {1, 3, 30}) {
        Results chunked;
        Layer layer(*device, c);
        for (const Tokens& chunk : Chunks(c, chunk_max)) layer.Run(chunk, half(layer), chunked);
        EXPECT_EQ(chunked, whole) << "chunks of up to " << chunk_max << " on " << device->name();
      }
    }
  }
  static double Tolerance(const StepTypes& types) { return types == kF32Types ? 3e-6 : 2e-3; }

 private:
  HostMatrix RandomMatrix(int outputs, int inputs) {
    return {outputs, inputs,
            Floats(size_t(outputs) * inputs, 1 / std::sqrt(static_cast<float>(inputs)))};
  }
  HostUnit RandomUnit(const UnitShape& shape) {
    const float sigma = 1 / std::sqrt(static_cast<float>(shape.hidden));
    const size_t n = size_t(shape.width) * shape.hidden;
    return {Floats(n, sigma), Floats(n, sigma), Floats(n, sigma)};
  }
  std::vector<float> MaybeBias(int n) {
    return Int(0, 1) == 1 ? Floats(n, 0.3f) : std::vector<float>();
  }
  void AddAttention(int hidden, int num_heads, int num_kv_heads, int head_dim, LayerCase& c) {
    c.attention = {.hidden = hidden,
                   .num_heads = num_heads,
                   .num_kv_heads = num_kv_heads,
                   .head_dim = head_dim,
                   .norm_eps = 1e-5f,
                   .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                   .rope = {.dims = 2 * Int(0, head_dim / 2)},
                   .window = Int(0, 1) * Int(1, 30),
                   .residual = Int(0, 1) == 1 ? 1 : 0.22f,
                   .act = c.types.act};
    for (int i = 0; i < c.attention.rope.dims / 2; ++i) {
      c.inv_freq.push_back(std::pow(10000.0f, -2.0f * i / head_dim));
    }
    c.q_norm = MaybeBias(head_dim);
    if (!c.q_norm.empty()) c.k_norm = Floats(head_dim);
    c.attention_norm = Floats(hidden);
    c.qkv = RandomMatrix(c.attention.qkv_width(), hidden);
    c.qkv_bias = MaybeBias(c.attention.qkv_width());
    c.o = RandomMatrix(hidden, c.attention.q_width());
    c.o_bias = MaybeBias(hidden);
  }
  void AddSequences(LayerCase& c) {
    c.lengths = {1, Int(2, 20), Int(20, kBlocksPerSeq * kKvBlockTokens)};
    for (const int length : c.lengths) {
      c.inputs.push_back(Floats(size_t(length) * c.attention.hidden));
      c.routes.emplace_back(length);
      for (int32_t& route : c.routes.back()) route = Int(0, kExperts - 1);
    }
    for (const int block : Shuffled(kSequences * kBlocksPerSeq)) c.block_tables.push_back(block);
  }
};

TEST_P(DeviceLayerContractTest, AttentionHalf) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (int round = 0; round < 3; ++round) {
      ExpectContract(MakeCase(types), [](Layer& layer) {
        return [&layer](const Tokens&, const TokenBatch& batch, float* h) {
          layer.AttentionHalf(batch, h);
        };
      });
    }
  }
}

// What StoreKv leaves in the cache is what AttentionHalf would have: later tokens cannot tell.
TEST_P(DeviceLayerContractTest, StoreKvStoresWhatAttentionHalfDoesAndLeavesTheRows) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const LayerCase c = MakeCase(types);
    Results whole, stored, rest;
    Layer together(*devices_[0], c), apart(*devices_.back(), c);
    together.Run(
        All(c), [&](const Tokens&, const TokenBatch& b, float* h) { together.AttentionHalf(b, h); },
        whole);
    Tokens early, late;
    for (const Token& t : All(c))
      (t.position < c.lengths[t.sequence] / 2 ? early : late).push_back(t);
    apart.Run(
        early, [&](const Tokens&, const TokenBatch& b, float* h) { apart.StoreKv(b, h); }, stored);
    for (const auto& [token, row] : stored) {
      const auto begin = c.inputs[token.first].begin() + int64_t{token.second} * row.size();
      EXPECT_TRUE(SameBits(row, {begin, begin + row.size()}));
    }
    apart.Run(
        late, [&](const Tokens&, const TokenBatch& b, float* h) { apart.AttentionHalf(b, h); },
        rest);
    for (const auto& [token, row] : rest) EXPECT_TRUE(SameBits(row, whole[token]));
  }
}

TEST_P(DeviceLayerContractTest, FfnHalf) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const auto& [shared, own] :
         {std::pair{0, Int(1, 70)}, {Int(1, 70), 0}, {Int(1, 70), Int(1, 70)}, {16, 32}, {0, 0}}) {
      ExpectContract(MakeCase(types, shared, own), [](Layer& layer) {
        return [&layer](const Tokens& tokens, const TokenBatch& batch, float* h) {
          layer.FfnHalf(tokens, batch, h);
        };
      });
    }
  }
}

// All devices compose the half alike, the reference too: here it is written out once more. (The
// router's halves have testing/double_router.cc.)
std::vector<double> PlainUnit(const HostUnit& unit, const UnitShape& shape,
                              const std::vector<double>& x) {
  std::vector<double> out(shape.hidden);
  for (int w = 0; w < shape.width; ++w) {
    double gate = 0, up = 0;
    for (int i = 0; i < shape.hidden; ++i) {
      gate += unit.gate[w * shape.hidden + i] * x[i];
      up += unit.up[w * shape.hidden + i] * x[i];
    }
    const double mid = gate / (1 + std::exp(-gate)) * up;
    for (int o = 0; o < shape.hidden; ++o) out[o] += unit.down[o * shape.width + w] * mid;
  }
  return out;
}

TEST_P(DeviceLayerContractTest, FfnHalfAddsThePartOfAllAndThePartOfTheTokensExpert) {
  const LayerCase c = MakeCase(kF32Types, Int(1, 60), Int(1, 60));
  const int hidden = c.ffn.hidden;
  Layer layer(*devices_[0], c);
  Results results;
  layer.Run(
      All(c), [&](const Tokens& t, const TokenBatch& b, float* h) { layer.FfnHalf(t, b, h); },
      results);
  for (const auto& [token, row] : results) {
    const auto& [sequence, position] = token;
    const float* h = c.inputs[sequence].data() + int64_t{position} * hidden;
    const double squares = std::inner_product(h, h + hidden, h, 0.0);
    std::vector<double> x(hidden);
    for (int i = 0; i < hidden; ++i) {
      x[i] = h[i] / std::sqrt(squares / hidden + c.ffn.norm_eps) * c.ffn_norm[i];
    }
    const std::vector<double> shared = PlainUnit(c.shared[0], c.shared_shape, x);
    const HostUnit& unit = c.own[c.routes[sequence][position]];
    const std::vector<double> own = PlainUnit(unit, c.own_shape, x);
    std::vector<float> expected(hidden);
    for (int i = 0; i < hidden; ++i) {
      expected[i] = static_cast<float>(h[i] + c.ffn.residual * (shared[i] + own[i]));
    }
    EXPECT_LT(RelativeError(row, expected), 1e-5) << "token " << position << " of " << sequence;
  }
}

TEST_P(DeviceLayerContractTest, FfnHalfHasTheBitsOfItsPartsInAnyWaves) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const auto& [shared, own] :
         {std::pair{0, Int(1, 70)}, {Int(1, 70), 0}, {Int(1, 70), Int(1, 70)}}) {
      const LayerCase c = MakeCase(types, shared, own);
      Layer layer(*devices_[0], c), waves(*devices_.back(), c);
      Results whole;
      layer.Run(
          All(c), [&](const Tokens& t, const TokenBatch& b, float* h) { layer.FfnHalf(t, b, h); },
          whole);
      for (const std::vector<int>& wave :
           {std::vector<int>{0, 0, 0, 0}, {0, 1, 1, 0}, Shuffled(kExperts)}) {
        Results parts;
        waves.Run(
            All(c),
            [&](const Tokens& t, const TokenBatch& b, float* h) {
              waves.FfnInWaves(t, b, wave, h);
            },
            parts);
        EXPECT_EQ(parts, whole) << "shared " << shared << " own " << own;
      }
    }
  }
}

TEST_P(DeviceLayerContractTest, Mlp) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (int round = 0; round < 4; ++round) {
      ExpectContract(MakeCase(types), [](Layer& layer) {
        return [&layer](const Tokens&, const TokenBatch& batch, float* h) { layer.Mlp(batch, h); };
      });
    }
  }
}

TEST_P(DeviceLayerContractTest, EmitGivesTheReferencesLogitsInAnyChoiceOfRows) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const LayerCase c = MakeCase(types);
    const Tokens tokens = All(c);
    const int vocab = c.logits.outputs;
    Layer layer(*devices_[0], c), reference(*reference_, c);
    EmitArgs args;
    const std::vector<float> all = layer.Emit(tokens, {}, args);
    EXPECT_LT(RelativeError(all, reference.Emit(tokens, {}, args)), Tolerance(types));
    for (const auto& device : devices_) {
      std::vector<int> picked = Shuffled(static_cast<int>(tokens.size()));
      picked.resize(Int(1, static_cast<int>(picked.size())));
      Layer other(*device, c);
      EmitArgs some;
      EXPECT_TRUE(SameBits(other.Emit(tokens, {picked.begin(), picked.end()}, some),
                           PickRows(all, vocab, picked)))
          << picked.size() << " rows on " << device->name();
    }
  }
}

// Beside the logits: what the operations make of them.
TEST_P(DeviceLayerContractTest, EmitSamplesAndScoresItsOwnLogits) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const LayerCase c = MakeCase(types);
    ComposedDevice& device = *devices_.back();
    Layer layer(device, c);
    Rig& rig = layer.rig();
    const Tokens tokens = All(c);
    const int n = static_cast<int>(tokens.size()), vocab = c.logits.outputs, max = n + 3;
    SamplingParams random;
    random.temperature = 0.7f;
    random.top_k = 20;
    std::vector<int32_t> slots(max), positions(max), targets(max);
    for (int r = 0; r < n; ++r) {
      slots[r] = r % 2;
      positions[r] = r;
      targets[r] = Int(0, vocab - 1);
    }
    const auto sample_args = [&] {
      const int64_t words = SeenWords(vocab);
      return SampleArgs{.params = rig.Put<SamplingParams>({SamplingParams(), random}),
                        .seeds = rig.Put<uint64_t>({5, 6}),
                        .history = {rig.Put(std::vector<uint32_t>(2 * words)), nullptr,
                                    rig.Put(std::vector<uint16_t>(64 * words))},
                        .biases = rig.Put(std::vector<TokenBiases>(2)),
                        .allowed = rig.Put(std::vector<uint32_t>(2 * words)),
                        .seq_slots = rig.Put(slots),
                        .positions = rig.Put(positions),
                        .masked = rig.Put(std::vector<int32_t>(max)),
                        .not_finite = static_cast<uint8_t*>(rig.Bytes(max)),
                        .tokens = rig.Put(std::vector<int32_t>(max))};
    };
    const auto score_args = [&] {
      return ScoreArgs{.targets = rig.Put(targets),
                       .logprobs = rig.Put(std::vector<float>(max)),
                       .greedy = static_cast<uint8_t*>(rig.Bytes(max))};
    };
    EmitArgs args;
    args.sample = sample_args();
    args.score = score_args();
    const std::vector<float> logits = layer.Emit(tokens, {}, args);
    const SampleArgs sample = sample_args();
    const ScoreArgs score = score_args();
    device.SampleTokens(args.rows, vocab, args.logits, sample);
    device.ScoreTokens(args.rows, vocab, args.logits, score);
    const std::vector<int32_t> drawn = rig.Get(args.sample->tokens, n);
    EXPECT_EQ(drawn, rig.Get(sample.tokens, n));
    EXPECT_THAT(rig.Get(args.sample->not_finite, n), testing::Each(0));
    EXPECT_EQ(rig.Get(args.score->logprobs, n), rig.Get(score.logprobs, n));
    EXPECT_EQ(rig.Get(args.score->greedy, n), rig.Get(score.greedy, n));
    for (int r = 0; r < n; r += 2) {  // the greedy slot
      const auto row = logits.begin() + int64_t{r} * vocab;
      EXPECT_EQ(drawn[r], std::max_element(row, row + vocab) - row) << "row " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceLayerContractTest, testing::ValuesIn(FamiliesUnderTest()),
                         FamilyName);

}  // namespace
}  // namespace pregate
