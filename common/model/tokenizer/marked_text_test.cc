#include "common/model/tokenizer/marked_text.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

using Stretches = std::vector<MarkedText::Run>;

TEST(MarkedTextTest, NeighboursOfOneOwnerAreOneRun) {
  MarkedText text("ab", true);
  text.Append("c", true);
  text.Append("", false);
  text.Append("de", false);
  EXPECT_EQ(text.bytes(), "abcde");
  EXPECT_EQ(text.runs(), (Stretches{{3, true}, {5, false}}));
  EXPECT_TRUE(MarkedText("", true).runs().empty());
}

TEST(MarkedTextTest, PartsKeepTheirOwners) {
  MarkedText text("abc", true);
  text.Append("def", false);
  text.Append("ghi", true);
  EXPECT_EQ(text.Part(2, 5).bytes(), "cdefg");
  EXPECT_EQ(text.Part(2, 5).runs(), (Stretches{{1, true}, {4, false}, {5, true}}));
  EXPECT_EQ(text.Part(3, 3).runs(), (Stretches{{3, false}}));
  EXPECT_TRUE(text.Part(4, 0).empty());
  for (size_t i = 0; i < text.size(); ++i) EXPECT_EQ(text.IsTemplateAt(i), i < 3 || i > 5) << i;
}

}  // namespace
}  // namespace pregate
