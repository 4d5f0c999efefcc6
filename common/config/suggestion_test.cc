#include "common/config/command_line.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

TEST(SuggestionTest, NamesWhatIsNearAndNothingElse) {
  const std::vector<std::string> names = {"model", "metrics-listen", "listen", "kv-cache-bytes"};
  EXPECT_EQ(Suggestion("modle", names, "--"), "; did you mean --model?");
  EXPECT_EQ(Suggestion("lisen", names), "; did you mean listen?");
  EXPECT_EQ(Suggestion("KV_CACHE_BYTES", names), "; did you mean kv-cache-bytes?");
  EXPECT_EQ(Suggestion("metrics_lisetn", names), "; did you mean metrics-listen?");
  EXPECT_EQ(Suggestion("frobnicate", names), "");
  EXPECT_EQ(Suggestion("", names), "");
  EXPECT_EQ(Suggestion(std::string(100'000, 'x'), names), "");
}

}  // namespace
}  // namespace pregate
