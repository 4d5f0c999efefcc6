// The authors' own module, run in PyTorch, against ours: golden/gqa_split.
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "cli/model/authors_layout.h"
#include "common/model/formats/safetensors.h"
#include "common/router/testing/test_devices.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router_service/engine/offline_router.h"

namespace pregate {
namespace {

std::string GoldenDir() {
  const char* shared = std::getenv("PREGATE_SHARED_DIR");
  return absl::StrCat(shared != nullptr ? shared : "../shared", "/golden/gqa_split");
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(double{got[i]} - want[i], 2);
    norm += std::pow(double{want[i]}, 2);
  }
  return std::sqrt(difference / norm);
}

class RouterGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(RouterGoldenTest, AgreesWithTheAuthorsModule) {
  const std::string dir = GoldenDir();
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not here";
  const auto checkpoint = OpenCheckpoint(dir + "/moe_authors_layout");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto golden = SafetensorsFile::Open(dir + "/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto device = MakeTestDevice(GetParam());
  auto router = OfflineRouter::Create(**checkpoint, *device, 512);
  ASSERT_TRUE(router.ok()) << router.status();
  for (int k = 0; k < 4; ++k) {
    SCOPED_TRACE(absl::StrCat("list ", k));
    const auto tokens = (*golden)->ReadInts(absl::StrCat(k, ".input_ids"));
    const auto logits = (*golden)->ReadFloats(absl::StrCat(k, ".router_logits"));
    const auto experts = (*golden)->ReadInts(absl::StrCat(k, ".expert_ids"));
    ASSERT_TRUE(tokens.ok() && logits.ok() && experts.ok());
    const auto routed = (*router)->RouteAll(*tokens);
    ASSERT_TRUE(routed.ok()) << routed.status();
    ASSERT_EQ(routed->logits.size(), logits->size());
    EXPECT_LE(RelativeError(routed->logits, *logits), 1e-5);
    EXPECT_EQ(routed->routes, *experts);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, RouterGoldenTest, PREGATE_ALL_TEST_DEVICES,
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pregate
