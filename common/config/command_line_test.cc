#include "common/config/command_line.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

absl::StatusOr<FlagTexts> Parse(std::vector<const char*> args) {
  const FlagDeclaration flags[] = {{.name = "model"},
                                   {.name = "json", .is_switch = true},
                                   {.name = "workers", .is_list = true},
                                   {.name = "dir", .positional = true}};
  args.insert(args.begin(), "prog");
  return ParseCommandLine(flags, static_cast<int>(args.size()), args.data());
}

TEST(ParseCommandLineTest, AValueArrivesAsItWasWritten) {
  for (const char* text :
       {"",    " ",     "a b", "-",   "-5", "--",  "--unknown", "=",        "a=b", "\"q\"",
        "'q'", "[1,2]", "{x}", "a,b", "#x", "\\n", "\xff",      "\xc3\xa9", "%%",  "a\nb"}) {
    const auto apart = Parse({"--model", text});
    ASSERT_TRUE(apart.ok()) << text << ": " << apart.status();
    EXPECT_THAT(apart->at("model"), ElementsAre(text));
    const auto joined = Parse({"--json", ("--model=" + std::string(text)).c_str()});
    ASSERT_TRUE(joined.ok()) << text << ": " << joined.status();
    EXPECT_THAT(joined->at("model"), ElementsAre(text));
  }
}

TEST(ParseCommandLineTest, TakesSwitchesListsAndPositionals) {
  const auto texts = Parse({"--workers", "a", "some/dir", "--json", "--workers=b", "--json=false"});
  ASSERT_TRUE(texts.ok()) << texts.status();
  EXPECT_THAT(*texts,
              ElementsAre(Pair("dir", ElementsAre("some/dir")), Pair("json", ElementsAre("false")),
                          Pair("workers", ElementsAre("a", "b"))));
  EXPECT_THAT(Parse({"--", "--json"})->at("dir"), ElementsAre("--json"));
}

TEST(ParseCommandLineTest, NamesWhatIsWrong) {
  const struct {
    std::vector<const char*> args;
    const char* message;
  } kCases[] = {{{"--modle", "m"}, "unknown option --modle; did you mean --model?"},
                {{"--modle=m"}, "unknown option --modle; did you mean --model?"},
                {{"-model"}, "unknown option -model; did you mean --model?"},
                {{"--model"}, "--model needs a value"},
                {{"--model", "--json"}, "if --json is meant, write --model=--json"},
                {{"--model", "a", "--model", "b"}, "--model is given twice"},
                {{"a", "b"}, "unexpected argument 'b'"}};
  for (const auto& c : kCases) {
    const auto texts = Parse(c.args);
    ASSERT_FALSE(texts.ok()) << c.message;
    EXPECT_THAT(std::string(texts.status().message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace pregate
