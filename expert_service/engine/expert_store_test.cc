// The store on its own: what a wave sees, what lies where, what is counted. That results do not
// depend on it is invariance_test's.
#include "expert_service/engine/expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "common/device/cpu/cpu_device.h"
#include "expert_service/testing/at_once_device.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kExperts = 5;

class ExpertStoreTest : public testing::Test {
 protected:
  std::unique_ptr<ExpertStore> MakeStore(int32_t expert_slots) {
    auto store =
        ExpertStore::Create(checkpoint_.get(), device_.get(), WeightFormat::kBF16, expert_slots);
    EXPECT_TRUE(store.ok()) << store.status();
    EXPECT_TRUE((*store)->Hold({0, 1, 2, 3, 4}, nullptr).ok());
    return *std::move(store);
  }
  std::vector<const void*> Row(const void* const* table) {
    std::vector<const void*> row(kExperts);
    device_->Download(row.data(), table, kExperts * sizeof(void*));
    return row;
  }
  std::vector<char> Packed(const UnitId& unit, const UnitShape& shape) {
    const auto tensor = [&](const char* name) {
      return checkpoint_->tensors.at(absl::StrCat("model.layers.", unit.layer, ".mlp.experts.",
                                                  unit.expert, ".", name, "_proj.weight"));
    };
    std::vector<char> image(device_->UnitBytes(shape));
    device_->PackUnit(tensor("gate"), tensor("up"), tensor("down"), shape, image.data());
    return image;
  }
  // The experts whose units a layer's array has, each of which is what it should be.
  std::vector<ExpertId> Seen(const ExpertStore& store, int32_t layer, const void* const* table) {
    std::vector<ExpertId> seen;
    const std::vector<const void*> row = Row(table);
    for (ExpertId e = 0; e < kExperts; ++e) {
      if (row[e] == nullptr) continue;
      const std::vector<char> packed = Packed({layer, e}, store.shape(layer));
      EXPECT_EQ(store.unit_bytes({layer, e}), packed.size());
      EXPECT_EQ(std::memcmp(row[e], packed.data(), packed.size()), 0)
          << "expert " << e << " in layer " << layer;
      seen.push_back(e);
      addresses_.insert(row[e]);
    }
    return seen;
  }
  // Runs a step whose waves see what they should; returns the waves' sizes.
  std::vector<size_t> RunStep(ExpertStore& store, std::vector<ExpertId> expert_set) {
    std::vector<size_t> waves;
    store.BeginStep(expert_set);
    for (int32_t layer = 0; layer < checkpoint_->spec().num_layers; ++layer) {
      std::vector<ExpertId> seen;
      store.ForLayer(layer, [&](const void* const* table) {
        const std::vector<ExpertId> wave = Seen(store, layer, table);
        seen.insert(seen.end(), wave.begin(), wave.end());
        waves.push_back(wave.size());
      });
      std::sort(seen.begin(), seen.end());
      EXPECT_EQ(seen, expert_set) << "layer " << layer;
    }
    store.EndStep();
    return waves;
  }

  std::unique_ptr<Device> device_ = MakeCpuDevice({.threads = 1});
  std::unique_ptr<InMemoryCheckpoint> checkpoint_ = MakeRandomModel(TinySpec(kExperts), 5);
  std::set<const void*> addresses_;
};

TEST_F(ExpertStoreTest, AWholeStoreRunsEachLayerInOneWave) {
  auto store = MakeStore(0);
  std::vector<UnitId> all;
  for (int l = 0; l < 2; ++l) {
    for (int e = 0; e < kExperts; ++e) all.push_back({l, e});
  }
  EXPECT_EQ(store->ResidentUnits(), all);
  EXPECT_EQ(store->stats().units, 2 * kExperts);
  EXPECT_EQ(store->stats().slots, 2 * kExperts);
  EXPECT_EQ(store->stats().bytes, store->device_bytes());
  int calls = 0;
  store->BeginStep({1, 3});
  for (int l = 0; l < 2; ++l) store->ForLayer(l, [&](const void* const*) { ++calls; });
  store->EndStep();
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(store->counts().hits, 4);
  EXPECT_THAT(store->TakeEvents(), IsEmpty());
}

TEST_F(ExpertStoreTest, UnitsAreVisibleInTheirWaveOnlyAndLieInTheBudget) {
  for (int32_t slots : {1, 2, 3, 5}) {
    auto store = MakeStore(slots);
    addresses_.clear();
    for (int step = 0; step < 4; ++step) {
      RunStep(*store, {0, 1, 2, 3, 4});
      RunStep(*store, {step});
    }
    const int64_t slot_bytes =
        ExpertStore::SlotBytes(*device_, checkpoint_->spec(), WeightFormat::kBF16);
    EXPECT_EQ(store->device_bytes(), 2 * slots * slot_bytes);
    EXPECT_LE(addresses_.size(), size_t(2 * slots)) << "a unit outside of the slots";
    const char* first = static_cast<const char*>(*addresses_.begin());
    const char* last = static_cast<const char*>(*addresses_.rbegin());
    EXPECT_LT(last - first, store->device_bytes());
    EXPECT_LE(store->ResidentUnits().size(), size_t(2 * slots));
    EXPECT_EQ(store->counts().evictions > 0, slots < 5);
    const ResidencyStats stats = store->stats();
    EXPECT_EQ(stats.slots, 2 * slots);
    EXPECT_EQ(stats.units, static_cast<int64_t>(store->ResidentUnits().size()));
    EXPECT_EQ(stats.bytes, stats.units * slot_bytes);
    EXPECT_EQ(stats.evictions, store->counts().evictions);
  }
}

TEST_F(ExpertStoreTest, ASetThatIsResidentRunsInOneWaveAndLoadsNothing) {
  auto store = MakeStore(2);
  RunStep(*store, {1, 4});
  const ResidencyCounts before = store->counts();
  EXPECT_THAT(RunStep(*store, {1, 4}), ElementsAre(2, 2));
  EXPECT_EQ(store->counts().loads, before.loads);
  EXPECT_EQ(store->counts().hits, before.hits + 4);
}

TEST_F(ExpertStoreTest, LayersWhoseUnitsAreThereRunInOneGo) {
  for (const int32_t slots : {0, 2, 5}) {
    auto store = MakeStore(slots);
    if (slots > 0) RunStep(*store, {1, 4});
    const ResidencyCounts before = store->counts();
    store->BeginStep({1, 4});
    EXPECT_EQ(store->RunLayers(0, [](int32_t) { return false; }), 0) << "the device says no";
    EXPECT_EQ(store->RunLayers(1,
                               [&](int32_t count) {
                                 EXPECT_EQ(count, 1);
                                 return false;
                               }),
              0);
    const int32_t ran = store->RunLayers(0, [&](int32_t count) {
      for (int32_t layer = 0; layer < count; ++layer) {
        const std::vector<ExpertId> of_step = {1, 4}, all = {0, 1, 2, 3, 4};
        EXPECT_EQ(Seen(*store, layer, store->units(layer)), slots > 0 ? of_step : all);
      }
      return true;
    });
    EXPECT_EQ(ran, 2);
    store->EndStep();
    EXPECT_EQ(store->counts().loads, before.loads);
    EXPECT_EQ(store->counts().misses, before.misses);
    EXPECT_EQ(store->counts().hits, before.hits + 4);
  }
}

TEST_F(ExpertStoreTest, WhatTheDeviceDidNotRunStaysForTheStep) {
  auto store = MakeStore(2);
  RunStep(*store, {1, 4});
  store->SetWanted(std::vector<UnitId>{{0, 0}, {1, 0}}, 2);
  store->BeginStep({1, 4});
  EXPECT_EQ(store->RunLayers(0, [](int32_t) { return false; }), 0);
  store->Tick();
  EXPECT_THAT(store->ResidentUnits(),
              ElementsAre(UnitId{0, 1}, UnitId{0, 4}, UnitId{1, 1}, UnitId{1, 4}));
  EXPECT_EQ(store->RunLayers(0, [](int32_t) { return true; }), 2);
  EXPECT_LT(store->ResidentUnits().size(), 4u) << "gives way to what is wanted";
  store->EndStep();
}

// A layer without own neurons is part of them, or runs without any.
TEST_F(ExpertStoreTest, LayersInARowEndBeforeAUnitThatIsNotThere) {
  ModelSpec spec = TinySpec(kExperts);
  spec.num_layers = 5;
  spec.shared_width.assign(5, 13);
  spec.own_width = {17, 9, 17, 0, 9};
  checkpoint_ = MakeRandomModel(spec, 5);
  device_ = std::make_unique<AtOnceDevice>(std::move(device_), /*looks=*/0);
  auto store = MakeStore(2);
  store->BeginStep({3});
  const auto run_all = [](int32_t) { return true; };
  EXPECT_EQ(store->RunLayers(0, run_all), 0);
  EXPECT_EQ(store->RunLayers(3, run_all), 1) << "nothing to wait for";
  store->ForLayer(0, [](const void* const*) {});  // which waits for the first copy
  EXPECT_EQ(store->RunLayers(1, run_all), 0);
  static_cast<AtOnceDevice&>(*device_).Arrive();
  EXPECT_EQ(store->RunLayers(1, run_all), 4);
  store->EndStep();
}

// Three layers are there, the slots are full, and each of the next layers' units needs one.
TEST_F(ExpertStoreTest, LayersRunOneByOneWhileALoadWaitsForASlot) {
  constexpr int32_t kLayers = 6;
  ModelSpec spec = TinySpec(kExperts);
  spec.num_layers = kLayers;
  spec.shared_width.assign(kLayers, 13);
  spec.own_width.assign(kLayers, 17);
  checkpoint_ = MakeRandomModel(spec, 5);
  device_ = std::make_unique<AtOnceDevice>(std::move(device_), /*looks=*/0);
  auto& device = static_cast<AtOnceDevice&>(*device_);
  auto store = MakeStore(1);
  store->SetWanted(std::vector<UnitId>{{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}}, kLayers);
  while (store->stats().units < kLayers) {
    store->Tick();
    device.Arrive();
  }
  store->SetWanted({}, 0);
  store->BeginStep({0, 1});
  const auto run_all = [](int32_t) { return true; };
  const int64_t loads = store->counts().loads;
  EXPECT_EQ(store->RunLayers(0, run_all), 1);
  EXPECT_EQ(store->counts().loads, loads + 2) << "into the slots of the first layer";
  EXPECT_EQ(store->RunLayers(1, run_all), 2) << "two copies are under way";
  for (int32_t layer = 3; layer < kLayers; ++layer) {
    EXPECT_EQ(store->RunLayers(layer, run_all), 0);
    std::vector<ExpertId> seen;
    store->ForLayer(layer, [&](const void* const* table) {
      for (const ExpertId e : Seen(*store, layer, table)) seen.push_back(e);
    });
    EXPECT_THAT(seen, testing::UnorderedElementsAre(0, 1));
  }
  store->EndStep();
  EXPECT_EQ(store->counts().hits, 6);
  EXPECT_EQ(store->counts().misses, 6);
}

TEST_F(ExpertStoreTest, WhatIsWantedIsThereBeforeItIsNeeded) {
  auto store = MakeStore(1);
  RunStep(*store, {0});
  store->SetWanted(std::vector<UnitId>{{0, 3}, {1, 3}}, 2);
  while (store->ResidentUnits() != std::vector<UnitId>{{0, 3}, {1, 3}}) store->Tick();
  const ResidencyCounts before = store->counts();
  RunStep(*store, {3});
  EXPECT_EQ(store->counts().hits, before.hits + 2);
  EXPECT_EQ(store->counts().misses, before.misses);
}

TEST_F(ExpertStoreTest, HoldsWhatItIsToldAndReadsMoreLater) {
  for (int32_t slots : {0, 2}) {
    auto store = *ExpertStore::Create(checkpoint_.get(), device_.get(), WeightFormat::kF32, slots);
    ASSERT_TRUE(store->Hold({1}, nullptr).ok());
    EXPECT_EQ(store->unit_bytes({0, 0}), 0u) << "packed, but not held";
    store->SetWanted(std::vector<UnitId>{{0, 0}, {0, 1}}, 2);
    store->Tick();
    RunStep(*store, {1});
    ASSERT_TRUE(store->Hold({0, 1}, nullptr).ok());
    RunStep(*store, {0, 1});
  }
}

// Twenty loads of 1.5 MB through one slot a layer with nothing to compute meanwhile.
TEST_F(ExpertStoreTest, TheTimeThatAStepWaitsIsCounted) {
  ModelSpec spec = TinySpec(kExperts);
  spec.hidden = 256;
  spec.head_dim = 64;
  spec.num_layers = 4;
  spec.shared_width.assign(4, 8);
  spec.own_width.assign(4, 1024);
  checkpoint_ = MakeRandomModel(spec, 5);
  auto store = MakeStore(1);
  const auto run = [&](std::vector<ExpertId> expert_set) {
    store->BeginStep(std::move(expert_set));
    for (int32_t layer = 0; layer < 4; ++layer) store->ForLayer(layer, [](const void* const*) {});
    store->EndStep();
  };
  // On a busy machine all loads of a run may be done before this thread asks for them.
  for (int i = 0; i < 100 && store->stalled() == absl::ZeroDuration(); ++i) run({0, 1, 2, 3, 4});
  EXPECT_GT(store->stalled(), absl::ZeroDuration());
  run({2});
  const absl::Duration before = store->stalled();
  run({2});
  EXPECT_EQ(store->stalled(), before);
}

}  // namespace
}  // namespace pregate
