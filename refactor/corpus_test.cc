#include "refactor/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "refactor/testing/byte_tokenizer.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CorpusTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::filesystem::path(testing::TempDir()) /
           testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
  }
  void Write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  absl::StatusOr<Corpus> Read(const CorpusOptions& options) {
    return ReadCorpus(dir_.string(), ByteTokenizer(), options);
  }

  std::filesystem::path dir_;
};

std::string Letters(char first, int n) {
  std::string s(n, 0);
  std::iota(s.begin(), s.end(), first);
  return s;
}

TEST_F(CorpusTest, FilesAndFoldersAreDomainsInTheOrderOfNames) {
  Write("b.txt", "BBBB");
  Write("a/2.md", "34");
  Write("a/1/x", "12");
  Write("notes.md", "no domain");
  Write(".hidden/x", "no domain");
  const auto corpus = Read({.hold_out = 0, .window_tokens = 4});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_THAT(corpus->domains, ElementsAre("a", "b"));
  EXPECT_THAT(corpus->Window(0), ElementsAre('1', '2', '3', '4'));
  EXPECT_THAT(corpus->Window(1), ElementsAre('B', 'B', 'B', 'B'));
  EXPECT_THAT(corpus->window_domain, ElementsAre(0, 1));
}

TEST_F(CorpusTest, WindowsAreSpreadAndNeverTouchWhatIsHeldOut) {
  Write("a.txt", Letters('A', 20));
  Write("b.txt", Letters('A', 20));
  const auto corpus = Read({.hold_out = 0.2, .window_tokens = 2, .windows_per_domain = 4});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_EQ(corpus->num_windows(), 8);
  EXPECT_EQ(corpus->tokens_in_text, 32);
  EXPECT_THAT(absl::MakeConstSpan(corpus->tokens).subspan(0, 8),
              ElementsAre('C', 'D', 'G', 'H', 'K', 'L', 'O', 'P'));
}

TEST_F(CorpusTest, HeldOutWindowsAreTheRest) {
  Write("a.txt", Letters('A', 20));
  Write("b.txt", Letters('A', 20));
  const auto texts =
      ReadTexts(dir_.string(), ByteTokenizer(), {.hold_out = 0.2, .window_tokens = 2});
  ASSERT_TRUE(texts.ok()) << texts.status();
  const Corpus held_out = CutWindows(*texts, texts->held_out, 2, 0);
  EXPECT_EQ(held_out.num_windows(), 4);
  EXPECT_THAT(absl::MakeConstSpan(held_out.tokens).subspan(0, 4), ElementsAre('Q', 'R', 'S', 'T'));
  EXPECT_EQ(CutWindows(*texts, texts->kept, 2, 0).num_windows(), 16);
}

TEST_F(CorpusTest, LongLinesThatStoodBeforeAreDroppedOrRefused) {
  const std::string line = std::string(70, 'x') + "\n", other = std::string(70, 'y') + "\n";
  Write("a.txt", line + "short\nshort\n" + line);  // holds out what it begins with
  Write("b.txt", other + line + other);            // of which one line is new
  CorpusOptions options{.hold_out = 0.46, .window_tokens = 2, .repeats = "refuse"};
  EXPECT_THAT(Read(options).status().message(), HasSubstr("domain a: 100% of its held-out text"));
  options.repeats = "keep";
  EXPECT_TRUE(Read(options).ok());
  options.repeats = "drop";
  options.hold_out = 0;
  const auto texts = ReadTexts(dir_.string(), ByteTokenizer(), options);
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_EQ(texts->kept[0].size(), line.size() + 12);
  EXPECT_EQ(texts->kept[1].size(), other.size());
  EXPECT_NEAR(texts->dropped[1], 2.0 / 3, 1e-9);
  std::unordered_set<std::string> seen;
  const std::string once = std::string(70, 'z') + "\none\n\ntwo\n}\n" + other + "three\n}\n";
  EXPECT_EQ(WithoutRepeats(once + once, seen), once);  // short lines of the copy too
  EXPECT_EQ(WithoutRepeats("new\n" + other + "four\n}\n", seen), "new\nfour\n}\n");
  EXPECT_EQ(RepeatedShare({line, line}, other + line), 0.5);
  EXPECT_EQ(RepeatedShare({"short\n"}, "short\n"), 0);
}

TEST_F(CorpusTest, SomeOfTheLastWindowsAreSpreadOverThem) {
  const Corpus first{
      .domains = {"a", "b"}, .window_tokens = 2, .tokens = {7, 7}, .window_domain = {1}};
  Corpus other{.domains = {"a", "b"}, .window_tokens = 2};
  for (TokenId w = 0; w < 9; ++w) {
    other.tokens.insert(other.tokens.end(), {w, w});
    other.window_domain.push_back(w % 2);
  }
  const Corpus both = WithSomeOfTheLast(first, other, /*last=*/6, /*num=*/3);
  EXPECT_THAT(both.tokens, ElementsAre(7, 7, 3, 3, 5, 5, 7, 7));
  EXPECT_THAT(both.window_domain, ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(WithSomeOfTheLast(first, other, 2, 100).num_windows(), 3);
  EXPECT_EQ(WithSomeOfTheLast(first, other, 0, 5).num_windows(), 1);
}

TEST_F(CorpusTest, HoldOutCutsBetweenCharacters) {
  EXPECT_EQ(WithoutHeldOut("aaaaa\xC3\xA9zzz", 0.4), "aaaaa\xC3\xA9");
  EXPECT_EQ(WithoutHeldOut("abcd", 0), "abcd");
}

TEST_F(CorpusTest, NamesWhatIsWrong) {
  EXPECT_THAT(Read({}).status().message(), HasSubstr("0 domains"));
  Write("long.txt", Letters('A', 20));
  Write("short.txt", "x");
  EXPECT_THAT(Read({.window_tokens = 8}).status().message(), HasSubstr("domain short"));
  EXPECT_THAT(Read({.hold_out = 1}).status().message(), HasSubstr("hold_out 1"));
  EXPECT_THAT(ReadCorpus("/no/such", ByteTokenizer(), {}).status().message(),
              HasSubstr("/no/such"));
}

}  // namespace
}  // namespace pregate
