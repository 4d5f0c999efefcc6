// Invariance: the bits of a sequence's logits, samples and routes depend on its own tokens, routes
// and sampling alone, not on what else is in the step, its chunking, preemption, late rows,
// drafts, the thread count, or how many experts' units fit on the device and which of them are there,
// which layers run at once, or how many ranks share the experts.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>

#include "expert_service/testing/at_once_device.h"
#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

struct Param {
  int num_experts;
  DType dtype;
  int threads;
  int32_t expert_slots = 0;
  int32_t world_size = 1;
  bool exchange_alone = false;
  bool traits = false;
  bool even = false;
  bool at_once = false;
};
std::string ParamName(const testing::TestParamInfo<Param>& info) {
  const Param& p = info.param;
  std::string name = absl::StrCat(p.num_experts > 0 ? "Moe" : "Dense", "_", DTypeName(p.dtype), "_",
                                  p.threads, "threads");
  if (p.expert_slots > 0) absl::StrAppend(&name, "_", p.expert_slots, "slots");
  if (p.world_size > 1) absl::StrAppend(&name, "_", p.world_size, "ranks");
  if (p.exchange_alone) absl::StrAppend(&name, "_exchange");
  if (p.traits) absl::StrAppend(&name, "_traits");
  if (p.even) absl::StrAppend(&name, "_even");
  if (p.at_once) absl::StrAppend(&name, "_at_once");
  return name;
}

ModelSpec SpecOf(const Param& param) {
  const ModelSpec plain = TinySpec(param.num_experts);
  return param.traits ? WithTraits(plain) : param.even ? WithEvenWidths(plain) : plain;
}

// A sequence whose tokens are all known, and what its logits are when it runs alone.
struct KnownSequence {
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  std::vector<float> logits;  // [tokens, vocab]
};

std::vector<ExpertId> RandomRoutes(int count, int num_experts, uint32_t seed) {
  return num_experts == 0 ? std::vector<ExpertId>() : RandomTokens(count, num_experts, seed);
}

template <typename T>
std::vector<T> Slice(const std::vector<T>& values, int32_t first, int32_t count) {
  if (values.empty()) return {};
  return {values.begin() + first, values.begin() + first + count};
}

void RunAlone(TestEngine& engine, KnownSequence& sequence) {
  engine.Reset();
  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, 1);
  const int32_t slot = maker.Open(1);
  maker.AddRow(slot, 0, sequence.tokens, sequence.routes, Emit::kLogits);
  const StepResult result = engine.Run(maker);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.logits.size(), 1u);
  sequence.logits = result.logits[0].logits;
}

class InvarianceTest : public testing::TestWithParam<Param> {
 protected:
  InvarianceTest()
      : seed(std::random_device{}()),
        random(seed),
        checkpoint(MakeRandomModel(SpecOf(GetParam()), 11)),
        engine(*checkpoint,
               {GetParam().dtype, GetParam().threads, GetParam().expert_slots,
                GetParam().world_size, GetParam().exchange_alone, GetParam().at_once}) {
    RecordProperty("seed", std::to_string(seed));
  }
  int32_t Random(int32_t bound) { return static_cast<int32_t>(random() % bound); }
  Wanted RandomWanted() {
    Wanted wanted;
    if (!engine.spec.is_moe()) return wanted;
    for (int32_t i = Random(engine.spec.num_experts); i > 0; --i) {
      wanted.units.push_back({Random(engine.spec.num_layers), Random(engine.spec.num_experts)});
    }
    wanted.load_first = Random(static_cast<int32_t>(wanted.units.size()) + 1);
    return wanted;
  }

  const uint32_t seed;
  std::mt19937 random;
  std::unique_ptr<InMemoryCheckpoint> checkpoint;
  TestEngine engine;
};

// How far one known sequence is in random steps.
struct Cursor {
  int32_t slot = -1;
  int32_t next = 0;
};

TEST_P(InvarianceTest, LogitsKeepTheirBitsInRandomBatches) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  TestEngine alone(*checkpoint, GetParam().dtype, 1);
  const int vocab = engine.spec.vocab_size;
  std::vector<KnownSequence> sequences(6);
  for (KnownSequence& sequence : sequences) {
    const int32_t count = 1 + Random(TestEngine::kStepTokens);
    sequence.tokens = RandomTokens(count, vocab, random());
    sequence.routes = RandomRoutes(count, engine.spec.num_experts, random());
    RunAlone(alone, sequence);
  }

  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, random());
  std::vector<Cursor> at(sequences.size());
  int compared = 0;
  int64_t misses = 0;
  for (int step = 0; step < 60; ++step) {
    int32_t budget = TestEngine::kStepTokens;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const KnownSequence& sequence = sequences[s];
      if (at[s].slot >= 0 &&
          (at[s].next == static_cast<int32_t>(sequence.tokens.size()) || Random(8) == 0)) {
        maker.Drop(at[s].slot);  // finished, or preempted: it starts again from its tokens
        at[s] = {};
      }
      if (Random(3) == 0 || budget == 0) continue;
      if (at[s].slot < 0) at[s] = {maker.Open(s), 0};
      const int32_t left = static_cast<int32_t>(sequence.tokens.size()) - at[s].next;
      const int32_t count = 1 + Random(std::min(budget, left));
      maker.AddRow(at[s].slot, at[s].next, Slice(sequence.tokens, at[s].next, count),
                   Slice(sequence.routes, at[s].next, count),
                   Random(4) ? Emit::kLogits : Emit::kNone);
      at[s].next += count;
      budget -= count;
    }
    StepPlan plan = maker.Take();
    plan.wanted.push_back(RandomWanted());
    const StepResult result = engine.Run(plan);
    ASSERT_TRUE(result.status.ok()) << result.status;
    ASSERT_TRUE(result.row_errors.empty()) << result.row_errors[0].message;
    misses += engine.times.unit_misses;
    for (const RowLogits& row : result.logits) {
      const float* want = sequences[row.seq_id].logits.data() + size_t(row.position) * vocab;
      ASSERT_EQ(std::memcmp(row.logits.data(), want, row.logits.size() * sizeof(float)), 0)
          << "step " << step << ", sequence " << row.seq_id << ", position " << row.position;
      ++compared;
    }
  }
  EXPECT_GT(compared, 30);
  EXPECT_EQ(misses > 0, GetParam().expert_slots > 0);
}

// A generation: prompt, then what was drawn.
struct Generation {
  std::vector<TokenId> prompt;
  std::vector<ExpertId> prompt_routes;
  SequenceAdd add;  // how it is drawn
  bool masked = false;
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;

  std::vector<TokenId> AllTokens() const {
    std::vector<TokenId> all = prompt;
    all.insert(all.end(), tokens.begin(), tokens.end());
    return all;
  }
  std::vector<ExpertId> AllRoutes() const {
    std::vector<ExpertId> all = prompt_routes;
    if (!all.empty()) all.insert(all.end(), routes.begin(), routes.end());
    return all;
  }
};

constexpr int kGenerated = 20;

// Some mask for each position.
std::vector<uint32_t> MaskAt(int32_t position, int vocab_size) {
  std::mt19937 random(position);
  std::vector<uint32_t> allowed((vocab_size + 31) / 32);
  for (uint32_t& word : allowed) word = random() & random();
  allowed[0] |= 1;
  return allowed;
}

// One row of one token at a time, nothing else in the step, every token explicit.
void GenerateAlone(TestEngine& engine, Generation& generation) {
  engine.Reset();
  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, 1);
  generation.add.seq_id = 1;
  const int32_t slot = maker.Open(generation.add);
  const bool moe = engine.spec.is_moe();
  for (int32_t position = 0; generation.tokens.size() < kGenerated; ++position) {
    const std::vector<TokenId> tokens = generation.AllTokens();
    const bool last = position + 1 == static_cast<int32_t>(tokens.size());
    Row& row = maker.AddRow(
        slot, position, {tokens[position]},
        moe ? std::vector<ExpertId>{generation.AllRoutes()[position]} : std::vector<ExpertId>{},
        last ? Emit::kSample : Emit::kNone);
    if (generation.masked && last) row.allowed = MaskAt(position + 1, engine.spec.vocab_size);
    const StepResult result = engine.Run(maker);
    ASSERT_TRUE(result.status.ok() && result.row_errors.empty()) << result.status;
    if (!last) continue;
    ASSERT_EQ(result.samples.size(), 1u);
    EXPECT_EQ(result.samples[0].position, position + 1);
    generation.tokens.push_back(result.samples[0].token);
    generation.routes.push_back(result.samples[0].route);
  }
}

std::vector<Generation> RandomGenerations(TestEngine& engine, const Checkpoint& checkpoint,
                                          std::mt19937& random) {
  std::unique_ptr<OfflineRouter> router;
  if (engine.spec.is_moe())
    router = *OfflineRouter::Create(checkpoint, *engine.devices[0], TestEngine::kContext);
  const int vocab = engine.spec.vocab_size;
  std::vector<Generation> generations(8);
  for (size_t g = 0; g < generations.size(); ++g) {
    Generation& generation = generations[g];
    generation.prompt = RandomTokens(1 + random() % 30, vocab, random());
    if (router) generation.prompt_routes = router->RouteAll(generation.prompt)->routes;
    SequenceAdd& add = generation.add;
    add.sampling.temperature = g == 0 ? 0 : 0.9f;
    add.sampling.top_k = g == 2 ? 20 : 0;
    add.sampling.top_p = g == 3 ? 0.9f : 1;
    add.sampling.repetition_penalty = g % 2 ? 1.3f : 1;
    add.sampling.frequency_penalty = g == 5 ? 1.1f : 0;
    add.sampling.presence_penalty = g == 7 ? -2 : 0;
    add.seed = random();
    add.generated_from = static_cast<int32_t>(generation.prompt.size());
    generation.masked = g == 7;
    if (g != 6) continue;
    add.banned_until = add.generated_from + 1 + static_cast<int32_t>(random() % kGenerated);
    for (TokenId token = 0; token < vocab; ++token) {
      if (random() % 4 == 0) add.logit_bias.push_back({token, 0.5f * (random() % 20) - 5});
      if (random() % 2 == 0) add.banned.push_back(token);
    }
  }
  return generations;
}

// The sample behind the first `end` tokens, computed from position `begin` on, which the slot has the
// KV of. At most kStepTokens.
void AddSampleRow(PlanMaker& maker, int32_t slot, const Generation& generation, int32_t begin,
                  int32_t end, int vocab_size) {
  Row& row = maker.AddRow(slot, begin, Slice(generation.AllTokens(), begin, end - begin),
                          Slice(generation.AllRoutes(), begin, end - begin), Emit::kSample);
  row.logprobs_k = 5;
  if (generation.masked) row.allowed = MaskAt(end, vocab_size);
}

bool SameSample(const Sample& a, const Sample& b) {
  return a.position == b.position && a.token == b.token && a.route == b.route &&
         std::equal(a.logprobs.begin(), a.logprobs.end(), b.logprobs.begin(), b.logprobs.end(),
                    [](const TokenLogprob& x, const TokenLogprob& y) {
                      return x.token == y.token &&
                             std::memcmp(&x.logprob, &y.logprob, sizeof(float)) == 0;
                    });
}

// What another sequence has computed stands for what one would have computed itself.
TEST_P(InvarianceTest, ASharedPrefixKeepsSamplesAndLogprobs) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  TestEngine alone(*checkpoint, GetParam().dtype, 1);
  const int vocab = engine.spec.vocab_size;
  const SeqId home = GetParam().world_size;  // of ids that are its multiples: one rank
  int compared = 0, expected = 0;
  for (Generation& generation : RandomGenerations(alone, *checkpoint, random)) {
    GenerateAlone(alone, generation);
    expected += 3;
    const auto known = std::min<int32_t>(generation.AllTokens().size(), TestEngine::kStepTokens);
    const int32_t shared = kKvBlockTokens * (1 + Random((known - 1) / kKvBlockTokens));
    const int32_t end = shared + 1 + Random(std::min(known - shared, 12));
    alone.Reset();
    PlanMaker plain(TestEngine::kSlots, TestEngine::kBlocks, random());
    generation.add.seq_id = 1;
    AddSampleRow(plain, plain.Open(generation.add), generation, 0, end, vocab);
    const StepResult want = alone.Run(plain);
    ASSERT_EQ(want.samples.size(), 1u) << want.status;

    engine.Reset();
    PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, random());
    const int32_t first = maker.Open(home);
    maker.AddRow(first, 0, Slice(generation.AllTokens(), 0, known - 1),
                 Slice(generation.AllRoutes(), 0, known - 1), Emit::kNone);
    ASSERT_TRUE(engine.Run(maker).status.ok());
    AddSampleRow(maker, first, generation, known - 1, known, vocab);
    for (SeqId i = 2; i < 5; ++i) {
      SequenceAdd add = generation.add;
      add.seq_id = i * home;
      add.history = Slice(generation.AllTokens(), 0, shared);
      const int32_t slot = maker.Open(add);
      maker.Share(slot, first, shared / kKvBlockTokens);
      AddSampleRow(maker, slot, generation, shared, end, vocab);
    }
    const StepResult got = engine.Run(maker);
    ASSERT_TRUE(got.status.ok() && got.row_errors.empty()) << got.status;
    for (const Sample& sample : got.samples) {
      if (sample.seq_id == home) continue;
      EXPECT_TRUE(SameSample(sample, want.samples[0])) << shared << " of " << end << " shared";
      ++compared;
    }
  }
  EXPECT_EQ(compared, expected);
}

// The same generations all together: random chunks of prefill, late and explicit decode rows at
// random, drafts that are right, wrong and first right, preemption by drop and add again from
// position 0. `cuts_drafts`: the engine may leave out drafts whose experts it has not at hand.
class Crowd {
 public:
  Crowd(TestEngine& engine, const std::vector<Generation>& alone, bool cuts_drafts,
        std::mt19937& random)
      : engine_(engine),
        alone_(alone),
        cuts_drafts_(cuts_drafts),
        random_(random),
        maker_(TestEngine::kSlots, TestEngine::kBlocks, random()),
        runs_(alone.size()) {}

  void Run() {
    for (int step = 0; step < 400 && !Done(); ++step) {
      int32_t budget = TestEngine::kStepTokens;
      for (size_t g = 0; g < runs_.size(); ++g) PlanOne(g, budget);
      const StepResult result = engine_.Run(maker_);
      ASSERT_TRUE(result.status.ok()) << result.status;
      ASSERT_TRUE(result.row_errors.empty()) << result.row_errors[0].message;
      for (const Sample& sample : result.samples) Check(sample);
      if (testing::Test::HasFatalFailure()) return;
      for (RunState& run : runs_) {
        ASSERT_LE(run.due, cuts_drafts_ ? run.right : 0);
        drafts_cut_ += run.due;
        run.due = run.right = 0;
      }
    }
    EXPECT_TRUE(Done());
    EXPECT_GT(late_rows_, 0);
    EXPECT_GT(drafts_right_, drafts_cut_) << "none was run";
    EXPECT_GT(drafts_wrong_, 0);
    EXPECT_GT(preemptions_, 0);
  }

 private:
  struct RunState {
    int32_t slot = -1;
    int32_t next = 0;       // first position not yet run
    int32_t sampled = 0;    // tokens drawn so far
    int32_t due = 0;        // samples of the step that have not come
    int32_t right = 0;      // drafts of the step
    bool in_order = false;  // the last step drew the token at `next`
  };

  int32_t Random(int32_t bound) { return static_cast<int32_t>(random_() % bound); }
  bool Done() const {
    for (const RunState& run : runs_) {
      if (run.sampled < kGenerated) return false;
    }
    return true;
  }

  void PlanOne(size_t g, int32_t& budget) {
    RunState& run = runs_[g];
    if (run.sampled == kGenerated || budget == 0 || Random(4) == 0) return;
    if (run.slot >= 0 && Random(6) == 0) {
      maker_.Drop(run.slot);
      run.slot = -1;
      run.next = 0;
      run.in_order = false;
      ++preemptions_;
      return;
    }
    if (run.slot < 0) {
      SequenceAdd add = alone_[g].add;
      add.seq_id = g;
      run.slot = maker_.Open(std::move(add));
    }
    const int32_t known = static_cast<int32_t>(alone_[g].prompt.size()) + run.sampled;
    const int32_t left = known - run.next;
    if (left == 1 && run.in_order && !alone_[g].masked && Random(2)) {
      maker_.AddLateRow(run.slot, run.next, Emit::kSample);
      ++late_rows_;
      run.next += 1;
      run.due = 1;
      budget -= 1;
      return;
    }
    const int32_t count = 1 + Random(std::min(budget, left));
    Row& row = maker_.AddRow(run.slot, run.next, Slice(alone_[g].AllTokens(), run.next, count),
                             Slice(alone_[g].AllRoutes(), run.next, count),
                             count == left ? Emit::kSample : Emit::kNone);
    run.next += count;
    run.in_order = false;
    budget -= count;
    if (count < left) return;
    run.due = 1;
    if (alone_[g].masked) {
      row.allowed = MaskAt(run.next, engine_.spec.vocab_size);
    } else if (!alone_[g].add.sampling.depends_on_tokens()) {
      AddDrafts(g, row, budget);
    }
  }

  // Some right ones, then perhaps a wrong one with anything behind it.
  void AddDrafts(size_t g, Row& row, int32_t& budget) {
    RunState& run = runs_[g];
    const int32_t most = std::min(budget, kGenerated - 1 - run.sampled);
    if (most <= 0) return;
    const int32_t drafts = Random(std::min(most, 5) + 1), right = Random(drafts + 1);
    const std::vector<TokenId>& truth = alone_[g].tokens;
    for (int32_t i = 0; i < drafts; ++i) {
      const TokenId next = truth[run.sampled + i];
      row.tokens.push_back(i < right ? next : (next + 1) % engine_.spec.vocab_size);
    }
    row.count += drafts;
    row.drafts = drafts;
    maker_.Reserve(row.seq_slot, row.position + row.count + 1);
    run.due += right;
    run.right = right;
    budget -= drafts;
    drafts_right_ += right;
    drafts_wrong_ += drafts - right;
  }

  void Check(const Sample& sample) {
    RunState& run = runs_[sample.seq_id];
    const Generation& alone = alone_[sample.seq_id];
    EXPECT_EQ(sample.position, static_cast<int32_t>(alone.prompt.size()) + run.sampled);
    ASSERT_EQ(sample.token, alone.tokens[run.sampled])
        << "generation " << sample.seq_id << ", " << run.sampled;
    ASSERT_EQ(sample.route, alone.routes[run.sampled]);
    run.next = sample.position;
    ++run.sampled;
    --run.due;
    run.in_order = true;
  }

  TestEngine& engine_;
  const std::vector<Generation>& alone_;
  const bool cuts_drafts_;
  std::mt19937& random_;
  PlanMaker maker_;
  std::vector<RunState> runs_;
  int late_rows_ = 0, preemptions_ = 0, drafts_right_ = 0, drafts_wrong_ = 0, drafts_cut_ = 0;
};

TEST_P(InvarianceTest, SamplesAndRoutesAreTheSameInAnyCompany) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  TestEngine alone(*checkpoint, GetParam().dtype, 1);
  std::vector<Generation> generations = RandomGenerations(alone, *checkpoint, random);
  for (Generation& generation : generations) GenerateAlone(alone, generation);
  const Param& p = GetParam();
  const bool cuts_drafts = p.expert_slots > 0 && p.world_size == 1 && !p.exchange_alone;
  Crowd(engine, generations, cuts_drafts, random).Run();
}

// One row a step: where units move, most steps find what they need.
TEST_P(InvarianceTest, SamplesAndRoutesAreTheSameTokenByToken) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  TestEngine alone(*checkpoint, GetParam().dtype, 1);
  for (Generation& generation : RandomGenerations(alone, *checkpoint, random)) {
    Generation other = generation;
    GenerateAlone(alone, generation);
    GenerateAlone(engine, other);
    EXPECT_EQ(other.tokens, generation.tokens);
    EXPECT_EQ(other.routes, generation.routes);
  }
  if (auto* device = dynamic_cast<AtOnceDevice*>(engine.devices[0].get())) {
    EXPECT_FALSE(device->TakeCalls().empty()) << "no layers ran at once";
  }
}

TEST_P(InvarianceTest, TheReplicaNamesTheRoutesOfTheRouter) {
  if (GetParam().num_experts == 0) GTEST_SKIP() << "dense";
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  auto router = *OfflineRouter::Create(*checkpoint, *engine.devices[0], TestEngine::kContext);
  std::set<ExpertId> used;
  for (Generation& generation : RandomGenerations(engine, *checkpoint, random)) {
    GenerateAlone(engine, generation);
    EXPECT_EQ(generation.AllRoutes(), router->RouteAll(generation.AllTokens())->routes);
    used.insert(generation.routes.begin(), generation.routes.end());
  }
  EXPECT_GT(used.size(), 1u) << "the model's routes do not vary, so this shows nothing";
}

INSTANTIATE_TEST_SUITE_P(
    Models, InvarianceTest,
    testing::Values(Param{4, DType::kF32, 1}, Param{4, DType::kF32, 2}, Param{4, DType::kF32, 3},
                    Param{4, DType::kBF16, 1}, Param{4, DType::kBF16, 2}, Param{4, DType::kBF16, 3},
                    Param{4, DType::kF32, 2, 1}, Param{4, DType::kBF16, 2, 1},
                    Param{4, DType::kBF16, 1, 2}, Param{4, DType::kF32, 2, 3},
                    Param{4, DType::kBF16, 2, 4}, Param{4, DType::kF32, 1, 0, 2},
                    Param{4, DType::kF32, 2, 0, 1, true}, Param{4, DType::kBF16, 1, 2, 1, true},
                    Param{4, DType::kBF16, 1, 0, 2}, Param{4, DType::kBF16, 1, 1, 2},
                    Param{4, DType::kBF16, 1, 0, 3}, Param{0, DType::kF32, 2},
                    Param{0, DType::kBF16, 3}, Param{0, DType::kF32, 2, 0, 1, false, true},
                    Param{4, DType::kBF16, 3, 2, 1, false, true},
                    Param{4, DType::kF32, 1, 0, 2, false, true},
                    Param{4, DType::kBF16, 1, 0, 1, false, false, true},
                    Param{4, DType::kBF16, 1, 0, 2, false, false, true},
                    Param{0, DType::kBF16, 1, 0, 1, false, false, true},
                    Param{5, DType::kBF16, 1, 0, 1, false, false, true, true},
                    Param{5, DType::kBF16, 1, 1, 1, false, false, true, true},
                    Param{5, DType::kBF16, 1, 2, 1, false, false, true, true},
                    Param{5, DType::kF32, 2, 2, 1, false, true, false, true},
                    Param{5, DType::kBF16, 1, 3, 1, false, false, true, true},
                    Param{5, DType::kBF16, 1, 5, 1, false, false, true, true}),
    ParamName);

}  // namespace
}  // namespace pregate
