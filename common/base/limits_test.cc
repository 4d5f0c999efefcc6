#include "common/base/limits.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace pregate {
namespace {

TEST(LimitsTest, TableNamesEachLimitOnceWithUnitAndMeaning) {
  std::set<std::string> names;
  for (const Limit& limit : AllLimits()) {
    EXPECT_TRUE(names.insert(limit.name).second) << limit.name;
    EXPECT_GT(limit.value, 0) << limit.name;
    EXPECT_NE(std::string(limit.unit), "") << limit.name;
    EXPECT_NE(std::string(limit.meaning), "") << limit.name;
  }
  EXPECT_EQ(names.count("ClientMessageBytesMax"), 1u);
}

}  // namespace
}  // namespace pregate
