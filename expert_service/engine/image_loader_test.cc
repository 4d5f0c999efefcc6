// Loading on several threads: equal bits, errors that name the tensor, a stop that leaves nothing
// half done; into memory that helpers write (the CPU) and through staging (the reference device, a
// card), of weights that are stored in the type of their use and of others.
#include "expert_service/engine/image_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "common/base/limits.h"
#include "common/device/reference/reference_device.h"
#include "common/model/formats/checkpoint_writer.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/spec/tensor_names.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/testing/engine_device.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kExperts = 3;

// "engine": the one that the executable links.
std::unique_ptr<Device> MakeTestDevice(const std::string& name) {
  if (name == "engine") return MakeEngineTestDevice(1);
  return MakeReferenceDevice();
}

struct LoadCase {
  std::string device;
  DType stored = DType::kF32;
};

class LoadTest : public testing::TestWithParam<LoadCase> {
 protected:
  LoadTest() { Write(TinySpec(kExperts)); }

  void Write(const ModelSpec& spec) {
    std::filesystem::remove_all(dir_.path("model"));
    const auto model = MakeRandomModel(spec, 7);
    const auto fill = [&](const CanonicalTensor& tensor, absl::Span<float> out) {
      return model->Read(tensor.name, out);
    };
    const auto digest =
        WriteCheckpoint(dir_.path("model"), model->spec(), fill, {.dtype = GetParam().stored});
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
    const auto device = MakeTestDevice(GetParam().device);
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
      EXPECT_TRUE(device->Synchronize().ok());
      add(unit, device->UnitBytes(layer.ffn.shared));
    }
    store->BeginStep({0, 1, 2});
    for (int l = 0; l < checkpoint->spec().num_layers; ++l) {
      store->ForLayer(l, [&](const void* const* table) {
        const void* units[kExperts];
        device->Download(units, table, sizeof units);
        EXPECT_TRUE(device->Synchronize().ok());
        for (int e = 0; e < kExperts; ++e) {
          if (units[e] != nullptr) add(units[e], store->unit_bytes({l, e}));
        }
      });
    }
    store->EndStep();
    return all;
  }
  // Loads the model in every type and by slots, and compares each image with what the device packs
  // of all of the tensor's values at once.
  void ExpectImagesOfValues(const std::string& path) {
    const auto checkpoint = *Checkpoint::Open(path);
    for (const StepTypes& types : {kF32Types, kBF16Types}) {
      const auto device = MakeTestDevice(GetParam().device);
      ExpectBackbone(*checkpoint, *device, types);
      if (!checkpoint->spec().is_moe()) continue;
      for (const int32_t slots : {0, kExperts}) {
        ExpectExperts(*checkpoint, *device, types.weights, slots);
      }
    }
  }
  void ExpectBackbone(const Checkpoint& checkpoint, Device& device, const StepTypes& types) {
    const auto weights = ModelWeights::Load(checkpoint, &device, {.types = types}, nullptr);
    ASSERT_TRUE(weights.ok()) << weights.status();
    const ModelSpec& spec = checkpoint.spec();
    const auto expect_matrix = [&](const Matrix& matrix, const std::vector<std::string>& names) {
      std::vector<float> rows;
      for (const std::string& name : names) {
        const std::vector<float> part = ReadTensor(checkpoint, name);
        rows.insert(rows.end(), part.begin(), part.end());
      }
      std::vector<char> image(device.MatrixBytes(matrix.outputs, matrix.inputs, matrix.format));
      device.PackMatrixRows(rows, 0, matrix, image.data());
      EXPECT_TRUE(Contents(device, matrix.data, image.size()) == image) << names.front();
    };
    expect_matrix((*weights)->embedding(), {"model.embed_tokens.weight"});
    expect_matrix((*weights)->head().logits,
                  {spec.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"});
    for (int l = 0; l < spec.num_layers; ++l) {
      const LayerWeights& layer = (*weights)->layers()[l];
      const std::string at = absl::StrCat("model.layers.", l, ".");
      const std::string attention = at + "self_attn.";
      expect_matrix(layer.attention.qkv, {attention + "q_proj.weight", attention + "k_proj.weight",
                                          attention + "v_proj.weight"});
      expect_matrix(layer.attention.o, {attention + "o_proj.weight"});
      const void* unit = nullptr;
      device.Download(&unit, layer.ffn.shared_unit, sizeof unit);
      ASSERT_TRUE(device.Synchronize().ok());
      ExpectUnit(checkpoint, device, layer.ffn.shared, unit,
                 at + (spec.is_moe() ? "mlp.shared." : "mlp."));
    }
  }
  void ExpectExperts(const Checkpoint& checkpoint, Device& device, WeightFormat format,
                     int32_t slots) {
    auto store = *ExpertStore::Create(&checkpoint, &device, format, slots, 3);
    ASSERT_TRUE(store->Hold({0, 1, 2}, nullptr).ok());
    store->BeginStep({0, 1, 2});
    int num_units = 0;
    for (int l = 0; l < checkpoint.spec().num_layers; ++l) {
      store->ForLayer(l, [&](const void* const* table) {
        const void* units[kExperts];
        device.Download(units, table, sizeof units);
        ASSERT_TRUE(device.Synchronize().ok());
        for (int e = 0; e < kExperts; ++e) {
          if (units[e] == nullptr) continue;
          ++num_units;
          ExpectUnit(checkpoint, device, store->shape(l), units[e],
                     absl::StrCat("model.layers.", l, ".mlp.experts.", e, "."));
        }
      });
    }
    store->EndStep();
    EXPECT_EQ(num_units, kExperts * checkpoint.spec().num_layers);
  }
  void ExpectUnit(const Checkpoint& checkpoint, Device& device, const UnitShape& shape,
                  const void* unit, const std::string& prefix) {
    std::vector<char> image(device.UnitBytes(shape));
    device.PackUnit(ReadTensor(checkpoint, prefix + "gate_proj.weight"),
                    ReadTensor(checkpoint, prefix + "up_proj.weight"),
                    ReadTensor(checkpoint, prefix + "down_proj.weight"), shape, image.data());
    EXPECT_TRUE(Contents(device, unit, image.size()) == image) << prefix;
  }
  std::string LoadError(int threads) {
    const auto checkpoint = Open();
    const auto device = MakeTestDevice(GetParam().device);
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

TEST_P(LoadTest, ImagesAreThoseOfTheDecodedTensors) {
  for (const bool tied : {false, true}) {
    ModelSpec spec = TinySpec(kExperts);
    spec.tie_embeddings = tied;
    Write(spec);
    ExpectImagesOfValues(dir_.path("model"));
  }
}

// A dense model without a manifest whose matrices are random bits: infinities, all kinds of NaN,
// denormals.
TEST_P(LoadTest, AnyBitsAreLoadedAsDecodingLoadsThem) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  FloatTensors tensors = RandomSmallTensors(seed);
  for (auto& [name, tensor] : tensors) {
    if (tensor.entry.shape.size() != 2) continue;
    tensor.entry.type = StoredTypeOf(GetParam().stored);
    tensor.bytes.resize(tensor.entry.shape[0] * tensor.entry.shape[1] *
                        DTypeBytes(GetParam().stored));
    // Some tensors have no NaN, so that both ways are taken; f32's are within bf16's range.
    const bool any = GetParam().stored == DType::kBF16 && random() % 2 == 0;
    for (size_t i = 0; i < tensor.bytes.size(); ++i) {
      const bool top = i % DTypeBytes(GetParam().stored) == DTypeBytes(GetParam().stored) - 1;
      tensor.bytes[i] = static_cast<char>(top && !any ? random() & 0xBF : random());
    }
  }
  WriteModel(dir_.path("bits"), SmallConfig(), tensors);
  ExpectImagesOfValues(dir_.path("bits"));
}

TEST_P(LoadTest, AValueBeyondTheRangeIsNamed) {
  if (GetParam().stored != DType::kF32) GTEST_SKIP() << "values of 16 bits are within bf16's range";
  FloatTensors tensors = RandomSmallTensors(3);
  OutputTensor& tensor = tensors.at("model.layers.1.mlp.up_proj.weight");
  std::vector<float> values = Values(tensor);
  values[16 + 3] = 3.4e38f;
  tensor = FloatTensor(tensor.entry.name, tensor.entry.shape, values);
  WriteModel(dir_.path("large"), SmallConfig(), tensors);
  const auto checkpoint = *Checkpoint::Open(dir_.path("large"));
  const auto device = MakeTestDevice(GetParam().device);
  const auto weights =
      ModelWeights::Load(*checkpoint, device.get(), {.types = kBF16Types}, nullptr);
  EXPECT_EQ(weights.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(weights.status().message()),
              AllOf(HasSubstr(dir_.path("large")), HasSubstr(tensor.entry.name), HasSubstr("[1,3]"),
                    HasSubstr("beyond the range of bf16")));
}

// However many threads compute: each that loads for a device with memory of its own has memory to
// stage in.
TEST_P(LoadTest, HelpersAreBounded) {
  constexpr int kThreads = 3 * kLoadThreadsMax;
  const auto device = MakeTestDevice(GetParam().device);
  const int expected = device->host_memory() ? kThreads : kLoadThreadsMax;
  std::mutex mutex;
  std::condition_variable changed;
  int at_once = 0, most = 0;
  bool full = false;
  const auto write = [&](ImageWriter&, LoadMeter&) {
    std::unique_lock lock(mutex);
    most = std::max(most, ++at_once);
    full = full || at_once >= expected;
    changed.notify_all();
    changed.wait(lock, [&] { return full; });
    --at_once;
    return absl::OkStatus();
  };
  std::vector<ImageLoad> loads(2 * kThreads, ImageLoad{write});
  ASSERT_TRUE(LoadImages(*device, {.threads = kThreads}, absl::MakeSpan(loads), nullptr).ok());
  EXPECT_EQ(most, expected);
  for (const ImageLoad& load : loads) EXPECT_TRUE(load.done);
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
  const auto device = MakeTestDevice(GetParam().device);
  for (const int32_t slots : {0, 2}) {
    auto store =
        *ExpertStore::Create(checkpoint.get(), device.get(), WeightFormat::kBF16, slots, 4);
    const absl::Status status = store->Hold({0, 1, 2}, nullptr);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(file()), HasSubstr(damaged)));
    EXPECT_EQ(store->unit_bytes({1, 2}), 0u);
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
  const auto device = MakeTestDevice(GetParam().device);
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

TEST_P(LoadTest, AStopEndsWhatIsBeingRead) {
  const auto device = MakeTestDevice(GetParam().device);
  const auto write = [](ImageWriter&, LoadMeter& meter) {
    while (!meter.is_stopped) ++meter.rows;
    return absl::AbortedError("as it was told");
  };
  std::vector<ImageLoad> loads(9, ImageLoad{write});
  EXPECT_TRUE(absl::IsAborted(
      LoadImages(*device, {.threads = 2}, absl::MakeSpan(loads), [](int, int) { return false; })));
  for (const ImageLoad& load : loads) EXPECT_FALSE(load.done);
}

TEST_P(LoadTest, AReadThatIsStoppedVouchesForNothing) {
  const std::string name = "model.layers.1.self_attn.o_proj.weight";
  Damage(name);
  const auto checkpoint = Open();
  const int64_t hidden = checkpoint->spec().hidden, width = checkpoint->spec().q_width();
  int visits = 0;
  const auto read = [&](bool more) {
    visits = 0;
    return checkpoint->ReadRows({name, hidden, width, DType::kBF16, 4},
                                [&](int64_t, const WeightRows&) { return ++visits > 0 && more; });
  };
  EXPECT_TRUE(absl::IsAborted(read(false)));
  EXPECT_EQ(visits, 1);
  EXPECT_EQ(read(true).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(visits, hidden / 4);
}

INSTANTIATE_TEST_SUITE_P(
    Devices, LoadTest,
    testing::Values(LoadCase{"engine", DType::kF32}, LoadCase{"engine", DType::kF16},
                    LoadCase{"engine", DType::kBF16}, LoadCase{"reference", DType::kF32},
                    LoadCase{"reference", DType::kF16}, LoadCase{"reference", DType::kBF16}),
    [](const auto& info) { return info.param.device + "_" + DTypeName(info.param.stored); });

}  // namespace
}  // namespace pregate
