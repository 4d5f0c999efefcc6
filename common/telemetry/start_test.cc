#include "common/telemetry/start.h"

#include "gtest/gtest.h"

namespace pregate {
namespace {

TEST(ModelNameOfTest, IsTheLastPartWithoutGguf) {
  EXPECT_EQ(ModelNameOf("models/smollm2-moe"), "smollm2-moe");
  EXPECT_EQ(ModelNameOf("models/smollm2-moe/"), "smollm2-moe");
  EXPECT_EQ(ModelNameOf("/a/model.Q4_1.gguf"), "model.Q4_1");
  EXPECT_EQ(ModelNameOf("v1.5"), "v1.5");
}

TEST(ExitCodeTest, TellsTheCallersMistakesFromOthers) {
  EXPECT_EQ(ExitCode("p", absl::OkStatus()), 0);
  EXPECT_EQ(ExitCode("p", absl::InvalidArgumentError("--x")), 2);
  EXPECT_EQ(ExitCode("p", absl::NotFoundError("model")), 2);
  EXPECT_EQ(ExitCode("p", absl::UnavailableError("in use")), 1);
}

}  // namespace
}  // namespace pregate
