// Loading on several threads: equal bits, errors that name the tensor, a stop that leaves nothing
// half done; into memory that helpers write (the CPU) and by uploads (the reference device).
#include "expert_service/engine/image_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/device/cpu/cpu_device.h"
#include "common/device/reference/reference_device.h"
#include "common/model/formats/checkpoint_writer.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/spec/tensor_names.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kExperts = 3;

std::unique_ptr<Device> MakeTestDevice(const std::string& name) {
  if (name == "cpu") return MakeCpuDevice({.threads = 1});
  return MakeReferenceDevice();
}

class LoadTest : public testing::TestWithParam<const char*> {
 protected:
  LoadTest() {
    const auto model = MakeRandomModel(TinySpec(kExperts), 7);
    const auto fill = [&](const CanonicalTensor& tensor, absl::Span<float> out) {
      return model->Read(tensor.name, out);
    };
    const auto digest = WriteCheckpoint(dir_.path("model"), model->spec(), fill, {});
    EXPECT_TRUE(digest.ok()) << digest.status();
  }

  std::string file() const { return dir_.path("model/model.safetensors"); }
  std::unique_ptr<Checkpoint> Open() {
    auto checkpoint = Checkpoint::Open(dir_.path("model"));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return *std::move(checkpoint);
  }
  void Damage(const std::string& tensor) {
    const auto open = SafetensorsFile::Open(file());
    ASSERT_TRUE(open.ok()) << open.status();
    const uint64_t at = (*(*open)->Find(tensor))->offset + 5;
    std::string bytes = ReadFile(file());
    bytes[at] ^= 1;
    WriteFile(file(), bytes);
  }
  std::vector<char> Contents(Device& device, const void* data, size_t bytes) {
    std::vector<char> contents(bytes);
    device.Download(contents.data(), data, bytes);
    EXPECT_TRUE(device.Synchronize().ok());
    return contents;
  }
  // Everything that was loaded, image after image.
  std::vector<char> LoadAll(StepTypes types, int threads, int32_t expert_slots) {
    const auto checkpoint = Open();
    const auto device = MakeTestDevice(GetParam());
    const auto weights = ModelWeights::Load(*checkpoint, device.get(),
                                            {.types = types, .threads = threads}, nullptr);
    EXPECT_TRUE(weights.ok()) << weights.status();
    auto store =
        *ExpertStore::Create(checkpoint.get(), device.get(), types.weights, expert_slots, threads);
    EXPECT_TRUE(store->Hold({0, 2}, nullptr).ok());
    EXPECT_TRUE(store->Hold({0, 1, 2}, nullptr).ok());
    std::vector<char> all;
    const auto add = [&](const void* data, size_t bytes) {
      const std::vector<char> contents = Contents(*device, data, bytes);
      all.insert(all.end(), contents.begin(), contents.end());
    };
    const auto add_matrix = [&](const Matrix& m) {
      add(m.data, device->MatrixBytes(m.outputs, m.inputs, m.format));
    };
    add_matrix((*weights)->embedding());
    add_matrix((*weights)->head().logits);
    for (const LayerWeights& layer : (*weights)->layers()) {
      add_matrix(layer.attention.qkv);
      add_matrix(layer.attention.o);
      const void* unit = nullptr;
      device->Download(&unit, layer.ffn.shared_unit, sizeof unit);
      add(unit, device->UnitBytes(layer.ffn.shared));
    }
    store->BeginStep({0, 1, 2});
    for (int l = 0; l < checkpoint->spec().num_layers; ++l) {
      store->ForLayer(l, [&](const void* const* table) {
        const void* units[kExperts];
        device->Download(units, table, sizeof units);
        for (int e = 0; e < kExperts; ++e) {
          if (units[e] != nullptr) add(units[e], store->header({l, e}).bytes);
        }
      });
    }
    store->EndStep();
    return all;
  }
  std::string LoadError(int threads) {
    const auto checkpoint = Open();
    const auto device = MakeTestDevice(GetParam());
    const auto weights = ModelWeights::Load(*checkpoint, device.get(),
                                            {.types = kBF16Types, .threads = threads}, nullptr);
    return std::string(weights.status().message());
  }

  TempDir dir_;
};

TEST_P(LoadTest, AnyNumberOfThreadsLoadsEqualBits) {
  for (const StepTypes& types : {kF32Types, kBF16Types}) {
    for (const int32_t slots : {0, kExperts}) {
      const std::vector<char> one = LoadAll(types, 1, slots);
      for (const int threads : {2, 5}) EXPECT_EQ(LoadAll(types, threads, slots), one);
    }
  }
}

TEST_P(LoadTest, WhatIsLoadedIsTheTensorPackedAtOnce) {
  const auto checkpoint = Open();
  const auto device = MakeTestDevice(GetParam());
  const auto weights =
      ModelWeights::Load(*checkpoint, device.get(), {.types = kBF16Types}, nullptr);
  ASSERT_TRUE(weights.ok()) << weights.status();
  const Matrix& qkv = (*weights)->layers()[1].attention.qkv;
  std::vector<float> rows;
  for (const char* name : {"q", "k", "v"}) {
    const auto part =
        ReadTensor(*checkpoint, absl::StrCat("model.layers.1.self_attn.", name, "_proj.weight"));
    rows.insert(rows.end(), part.begin(), part.end());
  }
  std::vector<char> image(device->MatrixBytes(qkv.outputs, qkv.inputs, qkv.format));
  device->PackMatrix(rows, qkv.outputs, qkv.inputs, qkv.format, image.data());
  EXPECT_EQ(Contents(*device, qkv.data, image.size()), image);
}

TEST_P(LoadTest, DamageNamesFileAndTheFirstTensor) {
  const std::string first = "model.layers.0.mlp.shared.down_proj.weight";
  Damage("model.layers.1.self_attn.o_proj.weight");
  Damage(first);
  for (const int threads : {1, 4}) {
    EXPECT_THAT(LoadError(threads),
                AllOf(HasSubstr(file()), HasSubstr(first), HasSubstr("content differs")));
  }
}

TEST_P(LoadTest, AnExpertsDamageNamesItAndTheOthersStay) {
  const std::string damaged = "model.layers.1.mlp.experts.2.gate_proj.weight";
  Damage(damaged);
  const auto checkpoint = Open();
  const auto device = MakeTestDevice(GetParam());
  for (const int32_t slots : {0, 2}) {
    auto store =
        *ExpertStore::Create(checkpoint.get(), device.get(), WeightFormat::kBF16, slots, 4);
    const absl::Status status = store->Hold({0, 1, 2}, nullptr);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(file()), HasSubstr(damaged)));
    EXPECT_EQ(store->header({1, 2}).bytes, 0u);
    EXPECT_TRUE(store->Hold({0, 1}, nullptr).ok());
  }
}

TEST_P(LoadTest, ATruncatedFileIsRefusedByName) {
  const std::string bytes = ReadFile(file());
  WriteFile(file(), bytes.substr(0, bytes.size() - 3));
  const absl::Status status = Checkpoint::Open(dir_.path("model")).status();
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(file()), HasSubstr("tensor ")));
}

TEST_P(LoadTest, ALoadThatIsStoppedCanBeginAgain) {
  const auto checkpoint = Open();
  const auto device = MakeTestDevice(GetParam());
  const auto stop = [](int, int) { return false; };
  EXPECT_TRUE(absl::IsAborted(
      ModelWeights::Load(*checkpoint, device.get(), {.types = kF32Types}, stop).status()));
  auto store = *ExpertStore::Create(checkpoint.get(), device.get(), WeightFormat::kF32, 0, 2);
  EXPECT_TRUE(absl::IsAborted(store->Hold({0, 1, 2}, stop)));
  int last = 0;
  EXPECT_TRUE(store
                  ->Hold({0, 1, 2},
                         [&](int done, int total) {
                           EXPECT_LE(last, done);
                           EXPECT_LE(done, total);
                           last = done;
                           return true;
                         })
                  .ok());
  EXPECT_EQ(store->stats().units, kExperts * checkpoint->spec().num_layers);
}

INSTANTIATE_TEST_SUITE_P(Devices, LoadTest, testing::Values("cpu", "reference"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pregate
