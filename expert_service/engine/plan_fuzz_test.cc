// Plans come from another process: whatever they say, the executor answers and stays whole.
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "common/device/cpu/cpu_device.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/testing/plan_maker.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

constexpr int32_t kSlots = 4, kBlocks = 24, kStepTokens = 24;

class Mutator {
 public:
  explicit Mutator(std::mt19937& random) : random_(random) {}

  void Mutate(StepPlan& plan) {
    switch (Random(11)) {
      case 0:
        return plan.drop.push_back(Value());
      case 1:
        return Mutate(plan.add.emplace_back());
      case 2:
        return Mutate(plan.blocks.emplace_back());
      case 3:
        return Mutate(plan.rows.emplace_back());
      case 4:
        return Mutate(plan.wanted.emplace_back());
      case 5:
        return plan.rows.empty() ? void()
                                 : plan.rows.push_back(plan.rows[Random(plan.rows.size())]);
      case 6:
        return plan.add.empty() ? void() : Mutate(plan.add[Random(plan.add.size())]);
      case 7:
        return plan.blocks.empty() ? void() : Mutate(plan.blocks[Random(plan.blocks.size())]);
      case 8:
        return plan.drop.empty() ? void() : plan.drop.clear();
      default:
        return plan.rows.empty() ? void() : Mutate(plan.rows[Random(plan.rows.size())]);
    }
  }

 private:
  int32_t Random(size_t bound) { return static_cast<int32_t>(random_() % bound); }

  int32_t Value() {
    static constexpr int32_t kValues[] = {-1,
                                          0,
                                          1,
                                          2,
                                          3,
                                          4,
                                          15,
                                          16,
                                          17,
                                          23,
                                          24,
                                          25,
                                          63,
                                          64,
                                          65,
                                          130,
                                          131,
                                          255,
                                          65536,
                                          std::numeric_limits<int32_t>::max(),
                                          std::numeric_limits<int32_t>::min()};
    return kValues[Random(std::size(kValues))];
  }
  float Float() {
    static constexpr float kValues[] = {0,
                                        1,
                                        -1,
                                        0.5f,
                                        1e30f,
                                        -1e30f,
                                        1e-40f,
                                        std::numeric_limits<float>::infinity(),
                                        std::numeric_limits<float>::quiet_NaN()};
    return kValues[Random(std::size(kValues))];
  }
  void MutateIds(std::vector<int32_t>& ids) {
    switch (Random(4)) {
      case 0:
        return ids.clear();
      case 1:
        return ids.push_back(Value());
      case 2:
        return ids.resize(Random(100), Value());
      default:
        if (!ids.empty()) ids[Random(ids.size())] = Value();
    }
  }
  void Mutate(SequenceAdd& add) {
    switch (Random(9)) {
      case 0:
        add.seq_slot = Value();
        break;
      case 1:
        add.home_rank = Value();
        break;
      case 2:
        add.sampling.temperature = Float();
        break;
      case 3:
        add.sampling.top_k = Value();
        break;
      case 4:
        add.sampling.top_p = Float();
        break;
      case 5:
        add.sampling.min_p = Float();
        break;
      case 6:
        add.sampling.repetition_penalty = Float();
        break;
      case 7:
        break;
      default:
        MutateIds(add.history);
    }
  }
  void Mutate(BlockTableUpdate& update) {
    switch (Random(3)) {
      case 0:
        update.seq_slot = Value();
        break;
      case 1:
        update.first_index = Value();
        break;
      default:
        MutateIds(update.ids);
    }
  }
  void Mutate(Row& row) {
    switch (Random(9)) {
      case 0:
        row.seq_slot = Value();
        break;
      case 1:
        row.position = Value();
        break;
      case 2:
        row.count = Value();
        break;
      case 3:
        row.late = !row.late;
        break;
      case 4:
        row.emit = static_cast<Emit>(Random(6));
        break;
      case 5:
        MutateIds(row.tokens);
        break;
      case 6:
        MutateIds(row.routes);
        break;
      case 7:
        MutateIds(row.targets);
        break;
      default:
        row.logprobs_k = Value();
    }
  }
  void Mutate(Wanted& wanted) {
    wanted.rank = Value();
    wanted.load_first = Value();
    wanted.units.resize(Random(3), {Value(), Value()});
  }

  std::mt19937& random_;
};

// A few sequences that prefill, decode (late and not) and leave, as a scheduler would plan them.
class Traffic {
 public:
  Traffic(std::mt19937& random, const ModelSpec& spec)
      : random_(random), spec_(spec), maker_(kSlots, kBlocks, 1) {}

  StepPlan Next() {
    for (int i = 0; i < 3; ++i) {
      State& state = states_[i];
      if (state.slot >= 0 && (state.length > 40 || random_() % 10 == 0)) {
        maker_.Drop(state.slot);
        state = {};
      } else if (state.slot < 0) {
        SamplingParams sampling;
        sampling.temperature = random_() % 2 ? 0.8f : 0;
        state = {maker_.Open(i, sampling, random_()), 0, false};
      }
      if (state.slot < 0) continue;
      if (state.sampled && random_() % 2) {
        maker_.AddLateRow(state.slot, state.length, Emit::kSample);
        ++state.length;
      } else {
        const int count = 1 + random_() % 7;
        state.sampled = random_() % 2;
        maker_.AddRow(state.slot, state.length, RandomTokens(count, spec_.vocab_size, random_()),
                      RandomTokens(count, spec_.num_experts, random_()),
                      state.sampled ? Emit::kSample : Emit::kNone);
        state.length += count;
      }
    }
    return maker_.Take();
  }

 private:
  struct State {
    int32_t slot = -1;
    int32_t length = 0;
    bool sampled = false;
  };
  std::mt19937& random_;
  const ModelSpec& spec_;
  PlanMaker maker_;
  State states_[3];
};

TEST(PlanFuzzTest, MutatedPlansNeverBreakTheExecutor) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  auto checkpoint = MakeRandomModel(TinySpec(3), 5);
  auto device = MakeCpuDevice({.threads = 1});
  ManualClock clock;
  ExecutorOptions options;
  options.types = kF32Types;
  options.kv_blocks = kBlocks;
  options.seq_slots = kSlots;
  options.step_tokens = kStepTokens;
  options.context_tokens = 64;
  options.logits_rows_max = 4;
  auto executor = *StepExecutor::Create(*checkpoint, device.get(), &clock, options, nullptr);

  Mutator mutator(random);
  int ok = 0, step_errors = 0, row_errors = 0;
  for (int round = 0; round < 150; ++round) {
    executor->Reset();
    Traffic traffic(random, checkpoint->spec());
    for (int step = 0; step < 8; ++step) {
      StepPlan plan = traffic.Next();
      for (int m = random() % 3; m > 0; --m) mutator.Mutate(plan);
      const StepResult result = executor->Run(plan, nullptr);
      ok += result.status.ok() && result.row_errors.empty();
      row_errors += static_cast<int>(result.row_errors.size());
      if (result.status.ok()) continue;
      ++step_errors;
      EXPECT_TRUE(result.samples.empty() && result.row_errors.empty());
      break;  // the worker would void the epoch
    }
  }
  EXPECT_GT(ok, 30);
  EXPECT_GT(step_errors, 10);
  EXPECT_GT(row_errors, 5);

  // And an honest plan still runs.
  executor->Reset();
  PlanMaker maker(kSlots, kBlocks, 1);
  maker.AddRow(maker.Open(1), 0, {1, 2, 3}, {0, 1, 2}, Emit::kSample);
  const StepResult result = executor->Run(maker.Take(), nullptr);
  EXPECT_TRUE(result.status.ok() && result.row_errors.empty());
  EXPECT_EQ(result.samples.size(), 1u);
}

}  // namespace
}  // namespace pregate
