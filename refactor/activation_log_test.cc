#include "refactor/activation_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

namespace pregate {
namespace {

TEST(ActivationLogTest, ChunksComeBackLayerByLayer) {
  const int layers = 2, tokens = 5, width = 3;
  auto log = ActivationLog::Create(testing::TempDir(), layers, tokens, width);
  ASSERT_TRUE(log.ok()) << log.status();
  std::vector<uint8_t> all(layers * tokens * width);
  std::iota(all.begin(), all.end(), 0);
  std::vector<float> energies(layers * tokens);
  std::iota(energies.begin(), energies.end(), 100.f);
  const auto write = [&](int layer, int first, int num) {
    const size_t at = layer * tokens + first;
    ASSERT_TRUE((*log)
                    ->Write(layer, first, absl::MakeSpan(all).subspan(at * width, num * width),
                            absl::MakeSpan(energies).subspan(at, num))
                    .ok());
  };
  for (int layer : {1, 0}) write(layer, 3, 2), write(layer, 0, 3);

  std::vector<uint8_t> back(tokens * width);
  for (int layer = 0; layer < layers; ++layer) {
    ASSERT_TRUE((*log)->ReadLayer(layer, absl::MakeSpan(back)).ok());
    EXPECT_EQ(back, std::vector<uint8_t>(all.begin() + layer * tokens * width,
                                         all.begin() + (layer + 1) * tokens * width));
    EXPECT_EQ((*log)->Energies(layer)[4], 100 + layer * tokens + 4);
  }
}

TEST(ActivationLogTest, LeavesNoFileBehind) {
  const std::string dir = testing::TempDir() + "/activation_log_test";
  std::filesystem::create_directories(dir);
  auto log = ActivationLog::Create(dir, 1, 1, 1);
  ASSERT_TRUE(log.ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir));
}

TEST(ActivationLogTest, NamesTheFolderThatIsNotThere) {
  const auto log = ActivationLog::Create("/no/such/folder", 1, 1, 1);
  ASSERT_FALSE(log.ok());
  EXPECT_NE(log.status().message().find("/no/such/folder"), std::string::npos);
}

}  // namespace
}  // namespace pregate
