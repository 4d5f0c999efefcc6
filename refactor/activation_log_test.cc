#include "refactor/activation_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

namespace pregate {
namespace {

std::string Fresh() {
  const std::string path = testing::TempDir() + "/activations-" +
                           testing::UnitTest::GetInstance()->current_test_info()->name();
  std::filesystem::remove(path);
  return path;
}

TEST(ActivationLogTest, ChunksComeBackLayerByLayer) {
  const int layers = 2, tokens = 5, width = 3;
  auto log = ActivationLog::Open(Fresh(), layers, tokens, width);
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

TEST(ActivationLogTest, ALaterProcessReadsWhatWasWritten) {
  const std::string path = Fresh();
  const std::vector<uint8_t> codes = {1, 2, 3, 4};
  const std::vector<float> energies = {5, 6};
  {
    auto log = ActivationLog::Open(path, 1, 3, 2);
    ASSERT_TRUE(log.ok()) << log.status();
    ASSERT_TRUE((*log)->Write(0, 1, codes, energies).ok());
    ASSERT_TRUE((*log)->Sync().ok());
  }
  const auto log = ActivationLog::Open(path, 1, 3, 2);
  ASSERT_TRUE(log.ok()) << log.status();
  std::vector<uint8_t> back(6);
  ASSERT_TRUE((*log)->ReadLayer(0, absl::MakeSpan(back)).ok());
  EXPECT_EQ(back, (std::vector<uint8_t>{0, 0, 1, 2, 3, 4}));
  EXPECT_EQ((*log)->Energies(0)[2], 6);
}

TEST(ActivationLogTest, NamesTheFileThatCannotBe) {
  const auto nowhere = ActivationLog::Open("/no/such/folder/log", 1, 1, 1);
  EXPECT_NE(nowhere.status().message().find("/no/such/folder/log"), std::string::npos);
  const std::string path = Fresh();
  ASSERT_TRUE(ActivationLog::Open(path, 1, 3, 2).ok());
  const auto other = ActivationLog::Open(path, 1, 4, 2);
  EXPECT_NE(other.status().message().find("has 18 bytes, not 24"), std::string::npos)
      << other.status();
}

}  // namespace
}  // namespace pregate
