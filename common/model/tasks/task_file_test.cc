#include "common/model/tasks/task_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate {
namespace {

using ::testing::HasSubstr;

TEST(TaskFileTest, AQuestionIsAnsweredAfterTheWordAnswer) {
  const auto item =
      ParseTaskLine(R"({"query": "Question: Which?\n", "choices": ["this", "that"], "gold": 1})");
  ASSERT_TRUE(item.ok()) << item.status();
  EXPECT_EQ(item->gold, 1);
  EXPECT_EQ(item->choices[1].context, "Question: Which?\nAnswer:");
  EXPECT_EQ(item->choices[1].continuation, " that");
}

TEST(TaskFileTest, ASentenceGoesOnAfterABlank) {
  const auto item =
      ParseTaskLine(R"({"query": "The best way is to", "choices": ["go", "stay"], "gold": 0})");
  ASSERT_TRUE(item.ok()) << item.status();
  EXPECT_EQ(item->choices[0].context, "The best way is to");
  EXPECT_EQ(item->choices[0].continuation, " go");
}

TEST(TaskFileTest, ASchemaHasOneContextAChoice) {
  const auto item = ParseTaskLine(
      R"({"context_options": ["so Sarah", "so Maria"], "continuation": "won.", "gold": 0})");
  ASSERT_TRUE(item.ok()) << item.status();
  EXPECT_EQ(item->choices[0].context, "so Sarah");
  EXPECT_EQ(item->choices[1].context, "so Maria");
  EXPECT_EQ(item->choices[1].continuation, " won.");
}

TEST(TaskFileTest, ALastWordHasOneChoice) {
  const auto item = ParseTaskLine(R"({"context": "I don't care about", "continuation": "signs"})");
  ASSERT_TRUE(item.ok()) << item.status();
  ASSERT_EQ(item->choices.size(), 1u);
  EXPECT_EQ(item->choices[0].continuation, " signs");
}

TEST(TaskFileTest, BadLinesAreRefusedByField) {
  const struct {
    const char *line, *named;
  } cases[] = {
      {"[]", "JSON object"},
      {"{}", "needs"},
      {R"({"query": 3, "choices": ["a", "b"], "gold": 0})", "query"},
      {R"({"query": "q", "choices": ["a"], "gold": 0})", "choices"},
      {R"({"query": "q", "choices": ["a", 7], "gold": 0})", "choices"},
      {R"({"query": "q", "choices": ["a", "b"], "gold": 2})", "2"},
      {R"({"query": "q", "choices": ["a", "b"]})", "gold"},
      {R"({"context": "c"})", "continuation"},
  };
  for (const auto& c : cases) {
    const auto item = ParseTaskLine(c.line);
    ASSERT_FALSE(item.ok()) << c.line;
    EXPECT_THAT(std::string(item.status().message()), HasSubstr(c.named)) << c.line;
  }
}

}  // namespace
}  // namespace pregate
