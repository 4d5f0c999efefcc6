#include "expert_service/engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/device/cpu/cpu_device.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

class MemoryPlanTest : public testing::Test {
 protected:
  MemoryPlanTest() { options_.kv_blocks = 10; }
  std::string Error() {
    return std::string(PlanMemory(spec_, *device_, options_).status().message());
  }

  std::unique_ptr<Device> device_ = MakeCpuDevice({.threads = 1});
  ModelSpec spec_ = TinySpec(3);
  ExecutorOptions options_;
};

TEST_F(MemoryPlanTest, BlocksFillTheBytesGiven) {
  const MemoryPlan ten = *PlanMemory(spec_, *device_, options_);
  EXPECT_EQ(ten.kv_blocks, 10);
  options_.kv_blocks = 0;
  options_.kv_cache_bytes = 10 * ten.kv_block_bytes + ten.kv_block_bytes / 2;
  EXPECT_EQ(PlanMemory(spec_, *device_, options_)->kv_blocks, 10);
}

TEST_F(MemoryPlanTest, EachPartIsCounted) {
  const MemoryPlan moe = *PlanMemory(spec_, *device_, options_);
  for (int64_t bytes : {moe.embedding_bytes, moe.attention_bytes, moe.shared_ffn_bytes,
                        moe.expert_bytes, moe.router_bytes, moe.kv_bytes, moe.step_bytes}) {
    EXPECT_GT(bytes, 0);
  }
  EXPECT_EQ(moe.context_tokens, spec_.max_position);
  options_.with_replica = false;
  const MemoryPlan without = *PlanMemory(spec_, *device_, options_);
  EXPECT_EQ(without.router_bytes, 0);
  EXPECT_LT(without.kv_bytes, moe.kv_bytes);
  spec_ = TinySpec(0);
  const MemoryPlan dense = *PlanMemory(spec_, *device_, options_);
  EXPECT_EQ(dense.expert_bytes, 0);
  spec_.tie_embeddings = false;
  EXPECT_EQ(PlanMemory(spec_, *device_, options_)->embedding_bytes, 2 * dense.embedding_bytes);
}

TEST_F(MemoryPlanTest, NamesTheOptionOutOfRange) {
  options_.seq_slots = 0;
  EXPECT_THAT(Error(), HasSubstr("seq_slots is 0"));
  options_ = {};
  options_.kv_cache_bytes = 10;
  EXPECT_THAT(Error(), HasSubstr("kv_cache_bytes is 10, one block of 16 tokens takes"));
  options_.kv_blocks = 1;
  options_.context_tokens = 129;
  EXPECT_THAT(Error(), HasSubstr("context_tokens is 129, must be 0..128"));
  options_.context_tokens = 0;
  EXPECT_THAT(std::string(TypesOf(DType::kF16).status().message()), HasSubstr("dtype is f16"));
  EXPECT_THAT(std::string(TypesOf("int8").status().message()), HasSubstr("dtype \"int8\""));
  for (const std::string& name : DTypeChoices()) EXPECT_EQ(TypesName(*TypesOf(name)), name);
}

TEST_F(MemoryPlanTest, LoadedUnitsAreThoseOfTheCheckpoint) {
  auto checkpoint = MakeRandomModel(spec_, 3);
  int last_done = 0, last_total = 0;
  const auto weights = ModelWeights::Load(*checkpoint, device_.get(), {.types = kBF16Types},
                                          [&](int done, int total) {
                                            EXPECT_LE(last_done, done);
                                            last_done = done;
                                            last_total = total;
                                            return true;
                                          });
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(last_done, 1 + 3 * spec_.num_layers) << "embedding; qkv, o and the shared part a layer";
  EXPECT_EQ(last_total, last_done);
  auto store = *ExpertStore::Create(checkpoint.get(), device_.get(), WeightFormat::kBF16, 0);
  ASSERT_TRUE(store->Hold({0, 2}, nullptr).ok());
  const UnitId unit{1, 2};
  const std::string at = "model.layers.1.mlp.experts.2.";
  const UnitShape shape = store->shape(unit.layer);
  std::vector<std::byte> image(store->unit_bytes(unit));
  EXPECT_EQ(image.size(), device_->UnitBytes(shape));
  device_->PackUnit(checkpoint->tensors[at + "gate_proj.weight"],
                    checkpoint->tensors[at + "up_proj.weight"],
                    checkpoint->tensors[at + "down_proj.weight"], shape, image.data());
  std::vector<std::byte> on_device(image.size());
  const void* units[3];
  store->BeginStep({0, 2});
  store->ForLayer(
      1, [&](const void* const* table) { device_->Download(units, table, sizeof(units)); });
  EXPECT_EQ(units[1], nullptr) << "an expert that is not held";
  device_->Download(on_device.data(), units[2], on_device.size());
  ASSERT_TRUE(device_->Synchronize().ok());
  EXPECT_EQ(on_device, image);
}

}  // namespace
}  // namespace pregate
