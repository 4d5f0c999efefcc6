// Incremental routing is full-prefix routing to the last bit, on every device.
#include "router_service/engine/router_executor.h"

#include <cstring>
#include <random>

#include "common/router/testing/random_router.h"
#include "common/router/testing/test_devices.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

constexpr int kVocab = 97;
constexpr int kStepTokens = 24;
constexpr int kContext = 80;

struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<BlockId> blocks;
  RoutedTokens alone;   // routed by itself, its whole prefix at once
  RoutedTokens pieces;  // routed in chunks beside the others
  int done() const { return static_cast<int>(pieces.routes.size()); }
};

// Blocks of all sequences interleaved at random.
std::vector<Sequence> RandomSequences(int count, std::mt19937& random) {
  std::vector<BlockId> free(count * (kContext / kKvBlockTokens));
  for (size_t i = 0; i < free.size(); ++i) free[i] = static_cast<BlockId>(i);
  std::shuffle(free.begin(), free.end(), random);
  std::vector<Sequence> sequences(count);
  for (Sequence& sequence : sequences) {
    sequence.tokens.resize(1 + random() % kContext);
    for (TokenId& token : sequence.tokens) token = static_cast<TokenId>(random() % kVocab);
    const size_t blocks = (sequence.tokens.size() + kKvBlockTokens - 1) / kKvBlockTokens;
    sequence.blocks.assign(free.end() - blocks, free.end());
    free.resize(free.size() - blocks);
  }
  return sequences;
}

// A random piece of a random choice of sequences, in random order.
RouteStep RandomStep(std::vector<Sequence*>& pending, std::mt19937& random) {
  std::shuffle(pending.begin(), pending.end(), random);
  RouteStep step;
  for (Sequence* sequence : pending) {
    const int left = static_cast<int>(sequence->tokens.size()) - sequence->done();
    const int room = std::min(left, kStepTokens - step.num_tokens);
    const int count = room > 0 ? static_cast<int>(random() % (room + 1)) : 0;
    if (count == 0) continue;
    step.rows.push_back(
        {.key = {0, static_cast<SeqId>(step.rows.size())},
         .position = sequence->done(),
         .tokens = absl::MakeConstSpan(sequence->tokens).subspan(sequence->done(), count),
         .blocks = sequence->blocks});
    step.num_tokens += count;
  }
  return step;
}

class RouterExecutorTest : public testing::TestWithParam<const char*> {};

TEST_P(RouterExecutorTest, AnyChunkingAndBatchingGivesTheSameBits) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const ModelSpec spec = RouterOnlySpec(
      kVocab, 7, {.num_layers = 2, .num_heads = 2, .hidden = 36, .intermediate = 21});
  const auto checkpoint = MakeRandomRouter(spec, seed);
  const auto device = MakeTestDevice(GetParam());
  auto sequences = RandomSequences(6, random);

  auto offline = OfflineRouter::Create(*checkpoint, *device, kContext);
  ASSERT_TRUE(offline.ok()) << offline.status();
  auto net = RouterNet::Load(*checkpoint, *device, kStepTokens);
  ASSERT_TRUE(net.ok()) << net.status();
  auto executor = RouterExecutor::Create(
      *std::move(net), *device,
      {.context_tokens_max = kContext, .kv_blocks = 6 * kContext / kKvBlockTokens});
  ASSERT_TRUE(executor.ok()) << executor.status();

  std::vector<Sequence*> pending;
  for (Sequence& sequence : sequences) {
    sequence.alone = *(*offline)->RouteAll(sequence.tokens);
    pending.push_back(&sequence);
  }
  std::vector<ExpertId> routes;
  std::vector<float> logits;
  while (!pending.empty()) {
    const RouteStep step = RandomStep(pending, random);
    if (step.rows.empty()) continue;
    ASSERT_TRUE((*executor)->Run(step, &routes, &logits).ok());
    int at = 0;
    for (const RouteRow& row : step.rows) {
      auto sequence = std::find_if(pending.begin(), pending.end(), [&](Sequence* s) {
        return s->blocks.data() == row.blocks.data();
      });
      const int count = static_cast<int>(row.tokens.size());
      RoutedTokens& out = (*sequence)->pieces;
      out.routes.insert(out.routes.end(), routes.begin() + at, routes.begin() + at + count);
      out.logits.insert(out.logits.end(), logits.begin() + at * 7,
                        logits.begin() + (at + count) * 7);
      at += count;
    }
    std::erase_if(pending,
                  [](Sequence* s) { return s->done() == static_cast<int>(s->tokens.size()); });
  }
  for (const Sequence& sequence : sequences) {
    EXPECT_EQ(sequence.pieces.routes, sequence.alone.routes);
    ASSERT_EQ(sequence.pieces.logits.size(), sequence.alone.logits.size());
    EXPECT_EQ(std::memcmp(sequence.pieces.logits.data(), sequence.alone.logits.data(),
                          sequence.alone.logits.size() * sizeof(float)),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterExecutorTest, PREGATE_ALL_TEST_DEVICES,
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pregate
