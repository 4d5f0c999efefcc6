#include "cli/chat_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "cli/generator.h"

namespace pregate::cli {

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ChatLinesTest, TellsCommandsFromMessages) {
  const struct {
    const char* line;
    ChatLine::Kind kind;
    const char* text;
  } kCases[] = {
      {"", ChatLine::kNothing, ""},
      {"  \t ", ChatLine::kNothing, ""},
      {"  hello there \r", ChatLine::kMessage, "hello there"},
      {"a /quit", ChatLine::kMessage, "a /quit"},
      {"//etc/passwd", ChatLine::kMessage, "/etc/passwd"},
      {"/quit", ChatLine::kQuit, ""},
      {" /reset ", ChatLine::kReset, ""},
      {"/help", ChatLine::kHelp, ""},
      {"/system  Be brief. ", ChatLine::kSystem, "Be brief."},
      {"/system", ChatLine::kSystem, ""},
      {"/", ChatLine::kMistake, "unknown command '/'; /help lists them"},
      {"/quit now", ChatLine::kMistake, "/quit takes no argument"},
      {"/frob x", ChatLine::kMistake, "unknown command '/frob'; /help lists them"},
  };
  for (const auto& c : kCases) {
    const ChatLine line = ParseChatLine(c.line);
    EXPECT_EQ(line.kind, c.kind) << c.line;
    EXPECT_EQ(line.text, c.text) << c.line;
  }
}

TEST(ChatLinesTest, ReadsSeeds) {
  EXPECT_EQ(ParseChatLine("/seed 7").seed, 7u);
  EXPECT_EQ(ParseChatLine("/seed 18446744073709551615").seed, UINT64_MAX);
  EXPECT_EQ(ParseChatLine("/seed").kind, ChatLine::kSeed);
  EXPECT_FALSE(ParseChatLine("/seed").seed.has_value());
  for (const char* bad : {"/seed -1", "/seed x", "/seed 1 2", "/seed 18446744073709551616"}) {
    EXPECT_EQ(ParseChatLine(bad).kind, ChatLine::kMistake) << bad;
    EXPECT_THAT(ParseChatLine(bad).text, HasSubstr("/seed")) << bad;
  }
}

using Turn = std::pair<std::string, std::string>;

std::vector<Turn> Turns(const std::vector<ChatMessage>& messages) {
  std::vector<Turn> turns;
  for (const ChatMessage& m : messages) turns.emplace_back(m.role, m.content);
  return turns;
}

TEST(ChatHistoryTest, SendsAllTurnsAndKeepsTheSystemMessageOverAReset) {
  ChatHistory history("");
  EXPECT_THAT(Turns(history.WithQuestion("q1")), ElementsAre(Turn{"user", "q1"}));
  EXPECT_TRUE(history.empty());  // asking alone changes nothing
  history.Add("q1", "a1");
  history.SetSystem("s");
  EXPECT_THAT(Turns(history.WithQuestion("q2")),
              ElementsAre(Turn{"system", "s"}, Turn{"user", "q1"}, Turn{"assistant", "a1"},
                          Turn{"user", "q2"}));
  history.Reset();
  EXPECT_THAT(Turns(history.WithQuestion("q3")),
              ElementsAre(Turn{"system", "s"}, Turn{"user", "q3"}));
}

TEST(ChatHistoryTest, RoomForAnAnswerEndsWithTheContext) {
  EXPECT_EQ(AnswerRoom(10, 100, 0), 90);
  EXPECT_EQ(AnswerRoom(10, 100, 20), 20);
  EXPECT_EQ(AnswerRoom(90, 100, 20), 10);
  EXPECT_EQ(AnswerRoom(99, 100, 20), 1);
  EXPECT_EQ(AnswerRoom(100, 100, 20), std::nullopt);
  EXPECT_EQ(AnswerRoom(101, 100, 0), std::nullopt);
}

TEST(TokenTimerTest, GivesNoRateOfTokensThatCameAtOnce) {
  TokenTimer timer;
  timer.Add(3);
  timer.Add(5);
  GenerateOutcome outcome;
  timer.Report(&outcome);
  EXPECT_EQ(outcome.tokens_per_s, std::nullopt);
  EXPECT_THAT(SummaryText(outcome), testing::HasSubstr(" · - tokens/s · "));
  absl::SleepFor(absl::Milliseconds(20));
  timer.Add(2);
  timer.Report(&outcome);
  EXPECT_GT(*outcome.tokens_per_s, 1);
  EXPECT_LE(*outcome.tokens_per_s, 7 / 0.02);
}

}  // namespace
}  // namespace pregate::cli
