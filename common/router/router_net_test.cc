#include "common/router/router_net.h"

#include <cstring>
#include <numeric>
#include <random>

#include "common/router/testing/random_router.h"
#include "common/router/testing/test_devices.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::HasSubstr;

constexpr int kVocab = 61;

ModelSpec TwoLayers() {
  return RouterOnlySpec(kVocab, 5,
                        {.num_layers = 2, .num_heads = 3, .hidden = 18, .intermediate = 11});
}

// One sequence of `tokens` in one batch, with its own keys and values.
class OneSequence {
 public:
  OneSequence(Device& device, const RouterNet& net, const std::vector<TokenId>& tokens)
      : device_(device) {
    const int count = static_cast<int>(tokens.size());
    std::vector<int32_t> positions(count), slots(count, 0), blocks((count + 15) / 16);
    std::iota(positions.begin(), positions.end(), 0);
    std::iota(blocks.begin(), blocks.end(), 0);
    batch_ = {.rows = {Put({count}), count},
              .token_ids = Put(tokens),
              .positions = Put(positions),
              .seq_slots = Put(slots),
              .block_tables = Put(blocks),
              .blocks_per_seq = static_cast<int>(blocks.size())};
    for (int l = 0; l < net.num_layers(); ++l) {
      kv_.push_back(net.KvShape(batch_.blocks_per_seq));
      kv_.back().data = Allocate(net.KvLayerBytes(batch_.blocks_per_seq));
    }
    kv_layer_bytes_ = net.KvLayerBytes(batch_.blocks_per_seq);
    routes_ = static_cast<int32_t*>(Allocate(count * sizeof(int32_t)));
  }

  const TokenBatch& batch() const { return batch_; }
  absl::Span<const KvLayer> kv() const { return kv_; }
  int32_t* routes() { return routes_; }

  std::vector<char> KvContents() {
    std::vector<char> bytes(kv_layer_bytes_ * kv_.size());
    for (size_t l = 0; l < kv_.size(); ++l) {
      device_.Download(bytes.data() + l * kv_layer_bytes_, kv_[l].data, kv_layer_bytes_);
    }
    EXPECT_TRUE(device_.Synchronize().ok());
    return bytes;
  }

 private:
  void* Allocate(size_t bytes) {
    buffers_.push_back(*device_.Allocate(bytes));
    return buffers_.back().as<void>();
  }
  const int32_t* Put(const std::vector<int32_t>& values) {
    void* data = Allocate(values.size() * sizeof(int32_t));
    device_.Upload(data, values.data(), values.size() * sizeof(int32_t));
    return static_cast<const int32_t*>(data);
  }

  Device& device_;
  std::vector<DeviceBuffer> buffers_;
  TokenBatch batch_;
  std::vector<KvLayer> kv_;
  size_t kv_layer_bytes_ = 0;
  int32_t* routes_ = nullptr;
};

std::vector<TokenId> RandomTokens(int count, std::mt19937& random) {
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % kVocab);
  return tokens;
}

class RouterNetTest : public testing::TestWithParam<const char*> {};

TEST_P(RouterNetTest, FillKvStoresWhatForwardStores) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto device = MakeTestDevice(GetParam());
  const auto net = RouterNet::Load(*MakeRandomRouter(TwoLayers(), seed), *device, 40);
  ASSERT_TRUE(net.ok()) << net.status();
  const std::vector<TokenId> tokens = RandomTokens(37, random);
  OneSequence forward(*device, **net, tokens), fill(*device, **net, tokens);
  const std::vector<char> empty = forward.KvContents();
  (*net)->Forward(forward.batch(), forward.kv(), nullptr, forward.routes());
  (*net)->FillKv(fill.batch(), fill.kv());
  EXPECT_EQ(forward.KvContents(), fill.KvContents());
  EXPECT_NE(forward.KvContents(), empty);
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterNetTest, PREGATE_ALL_TEST_DEVICES,
                         [](const auto& info) { return info.param; });

TEST(RouterNetLoadTest, TellsItsShape) {
  const auto device = MakeReferenceDevice();
  const auto net = RouterNet::Load(*MakeRandomRouter(TwoLayers(), 1), *device, 8);
  ASSERT_TRUE(net.ok()) << net.status();
  EXPECT_EQ((*net)->num_layers(), 2);
  EXPECT_EQ((*net)->num_experts(), 5);
  EXPECT_EQ((*net)->vocab_size(), kVocab);
  EXPECT_EQ((*net)->KvBytes(3), 2 * device->KvLayerBytes(3, 3, 6, KvType::kF32));
  EXPECT_GT((*net)->device_bytes(), kVocab * 18 * sizeof(float));
}

TEST(RouterNetLoadTest, TheDigestCoversShapesAndValues) {
  const auto device = MakeReferenceDevice();
  const auto digest = [&](const Checkpoint& checkpoint) {
    return (*RouterNet::Load(checkpoint, *device, 1))->digest();
  };
  const auto checkpoint = MakeRandomRouter(TwoLayers(), 7);
  const std::string original = digest(*checkpoint);
  EXPECT_EQ(original.size(), 64u);
  EXPECT_EQ(digest(*MakeRandomRouter(TwoLayers(), 7)), original);
  checkpoint->tensors["router.proj_out.bias"][4] += 1e-3f;
  EXPECT_NE(digest(*checkpoint), original);
  ModelSpec relu = TwoLayers();
  relu.router->activation = RouterActivation::kRelu;
  EXPECT_NE(digest(*MakeRandomRouter(relu, 7)), original);
}

TEST(RouterNetLoadTest, RefusesWhatItCannotRun) {
  const auto device = MakeReferenceDevice();
  ModelSpec dense = TwoLayers();
  dense.router.reset();
  const auto without = RouterNet::Load(InMemoryCheckpoint(dense), *device, 1);
  EXPECT_EQ(without.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(without.status().message()), HasSubstr("no router"));

  ModelSpec odd = TwoLayers();
  odd.router->num_heads = 6;  // heads of width 3 have no halves
  EXPECT_THAT(std::string(RouterNet::Load(InMemoryCheckpoint(odd), *device, 1).status().message()),
              HasSubstr("router.num_heads: 6 does not cut router.hidden 18"));

  auto incomplete = MakeRandomRouter(TwoLayers(), 1);
  incomplete->tensors.erase("router.layers.1.k_proj.bias");
  EXPECT_THAT(std::string(RouterNet::Load(*incomplete, *device, 1).status().message()),
              HasSubstr("router.layers.1.k_proj.bias"));
}

}  // namespace
}  // namespace pregate
