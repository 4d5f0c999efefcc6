#include "common/config/option_set.h"

#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A program with one option of each kind.
struct Program {
  OptionSet options{"prog", "A program for tests"};
  std::string model;
  std::string dtype = "f32";
  int32_t queue_max = 256, tokens = 0;
  int64_t kv_cache_bytes = 512 << 20;
  absl::Duration drain_timeout = absl::Seconds(30);
  double keep = 0.75;
  bool run_ahead = true;
  std::vector<std::string> workers;
  std::optional<uint64_t> seed;
  std::optional<int32_t> slots;
  std::map<std::string, std::string> environment;
  std::ostringstream out;

  Program() {
    options.String("model", &model, "Model directory").Required();
    options.Choice("dtype", &dtype, {"f32", "bf16"}, "Type of weights");
    options.Int("queue-max", &queue_max, 1, 1000, "requests", "Requests that may wait");
    options.Count("tokens", &tokens, 0, 2'000'000, "tokens", "Tuned on");
    options.Bytes("kv-cache-bytes", &kv_cache_bytes, 1 << 20, int64_t{1} << 40, "KV cache");
    options.Duration("drain-timeout-s", &drain_timeout, absl::Seconds(1), absl::Seconds(600),
                     "Wait for streams");
    options.Double("keep", &keep, 0, 1, "", "Share kept");
    options.Switch("run-ahead", &run_ahead, "Plan ahead of results");
    options.Strings("workers", &workers, "Addresses");
    options.OptionalUint64("seed", &seed, "Random seed");
    options.IntOrAuto("slots", &slots, 0, 8, "experts", "Slots");
  }

  absl::StatusOr<OptionSet::Outcome> Parse(std::vector<const char*> args) {
    args.insert(args.begin(), "prog");
    return options.Parse(
        static_cast<int>(args.size()), args.data(),
        [this](const char* name) -> const char* {
          const auto it = environment.find(name);
          return it == environment.end() ? nullptr : it->second.c_str();
        },
        out);
  }
};

std::string WriteFile(const std::string& text) {
  const std::string path =
      absl::StrCat(::testing::TempDir(), "/",
                   ::testing::UnitTest::GetInstance()->current_test_info()->name(), ".toml");
  std::ofstream(path) << text;
  return path;
}

TEST(OptionSetTest, KeepsDefaultsAndParsesEveryKindFromFlags) {
  Program defaults;
  ASSERT_TRUE(defaults.Parse({"--model", "m"}).ok());
  EXPECT_EQ(defaults.queue_max, 256);
  EXPECT_TRUE(defaults.run_ahead);
  EXPECT_EQ(defaults.seed, std::nullopt);

  Program p;
  const auto outcome =
      p.Parse({"--model=m", "--dtype", "bf16", "--queue-max", "7", "--kv-cache-bytes", "2GiB",
               "--drain-timeout-s", "1.5", "--keep", "0.5", "--run-ahead=false", "--workers",
               "a:1, b:2", "--seed", "18446744073709551615"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, OptionSet::Outcome::kRun);
  EXPECT_EQ(p.model, "m");
  EXPECT_EQ(p.dtype, "bf16");
  EXPECT_EQ(p.queue_max, 7);
  EXPECT_EQ(p.kv_cache_bytes, int64_t{2} << 30);
  EXPECT_EQ(p.drain_timeout, absl::Milliseconds(1500));
  EXPECT_EQ(p.keep, 0.5);
  EXPECT_FALSE(p.run_ahead);
  EXPECT_THAT(p.workers, ElementsAre("a:1", "b:2"));
  EXPECT_EQ(p.seed, 18446744073709551615u);
}

TEST(OptionSetTest, FlagBeatsEnvironmentBeatsFile) {
  const std::string file = WriteFile(
      "model = \"file\"\ndtype = \"bf16\"\nqueue-max = 3\nworkers = [\"x:1\", \"y:2\"]\n");
  Program p;
  p.environment = {{"PREGATE_DTYPE", "f32"}, {"PREGATE_MODEL", "env"}, {"PREGATE_CONFIG", file}};
  const auto outcome = p.Parse({"--model", "flag"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(p.model, "flag");
  EXPECT_EQ(p.options.SourceOf("model"), OptionSource::kFlag);
  EXPECT_EQ(p.dtype, "f32");
  EXPECT_EQ(p.options.SourceOf("dtype"), OptionSource::kEnvironment);
  EXPECT_EQ(p.queue_max, 3);
  EXPECT_EQ(p.options.SourceOf("queue-max"), OptionSource::kFile);
  EXPECT_THAT(p.workers, ElementsAre("x:1", "y:2"));
  EXPECT_EQ(p.options.SourceOf("keep"), OptionSource::kDefault);
}

TEST(OptionSetTest, CountsHaveUnitsInEverySource) {
  Program flag, environment, file, number;
  ASSERT_TRUE(flag.Parse({"--model", "m", "--tokens", "200k"}).ok());
  EXPECT_EQ(flag.tokens, 200'000);
  EXPECT_THAT(flag.options.ToArguments(), ElementsAre("--model=m", "--tokens=200k"));
  environment.environment = {{"PREGATE_TOKENS", "1.5M"}};
  ASSERT_TRUE(environment.Parse({"--model", "m"}).ok());
  EXPECT_EQ(environment.tokens, 1'500'000);
  const std::string path = WriteFile("model = \"m\"\ntokens = \"2M\"\n");
  ASSERT_TRUE(file.Parse({"--config", path.c_str()}).ok());
  EXPECT_EQ(file.tokens, 2'000'000);
  const std::string plain = WriteFile("model = \"m\"\ntokens = 30_000\n");
  ASSERT_TRUE(number.Parse({"--config", plain.c_str()}).ok());
  EXPECT_EQ(number.tokens, 30'000);
}

TEST(OptionSetTest, ErrorsNameOptionAndValue) {
  const struct {
    std::vector<const char*> args;
    const char* name;
    const char* value;
  } kCases[] = {
      {{"--model", "m", "--queue-max", "0"}, "--queue-max", "0 is outside of 1 to 1000 requests"},
      {{"--model", "m", "--queue-max", "many"}, "--queue-max", "'many'"},
      {{"--model", "m", "--dtype", "f8"}, "--dtype", "'f8' is not one of f32, bf16"},
      {{"--model", "m", "--tokens", "5q"}, "--tokens", "'5q' is not a whole number, with k or M"},
      {{"--model", "m", "--tokens", "5M"}, "--tokens", "5M is outside of 0 to 2M tokens"},
      {{"--model", "m", "--kv-cache-bytes", "12XB"}, "--kv-cache-bytes", "'12XB'"},
      {{"--model", "m", "--kv-cache-bytes", "1KiB"}, "--kv-cache-bytes", "1KiB is outside"},
      {{"--model", "m", "--drain-timeout-s", "nan"}, "--drain-timeout-s", "'nan'"},
      {{"--model", "m", "--run-ahead=maybe"}, "--run-ahead", "'maybe'"},
      {{"--model", "m", "--seed", "-1"}, "--seed", "'-1'"},
      {{}, "--model", "is required (or PREGATE_MODEL"},
      {{"--model", "m", "--nonsense"}, "--nonsense", "--help"},
  };
  for (const auto& c : kCases) {
    Program p;
    const auto outcome = p.Parse(c.args);
    ASSERT_FALSE(outcome.ok()) << c.name;
    EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(c.name));
    EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(c.value));
  }
}

TEST(OptionSetTest, RefusesUnknownKeysSectionsAndBadFiles) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"model = \"m\"\nspeed = 3\n", "unknown key speed"},
      {"model = \"m\"\nqeue-max = 3\n", ":2: unknown key qeue-max; did you mean queue-max?"},
      {"model = \"m\"\nqueue_max = 3\n", ":2: unknown key queue_max; did you mean queue-max?"},
      {"model = \"m\"\nconfig = \"n\"\n", ":2: unknown key config"},
      {"model = \"m\"\n[worker]\nqueue-max = 3\n", ":2: worker is a section"},
      {"model = \"m\"\nqueue-max = 3\nmodel = \"n\"\n", ":3: "},
      {"model = \"m\"\nqueue-max = \"7\"\n", ":2: queue-max is a string, must be an integer"},
      {"model = 7\n", ":1: model is an integer, must be a string"},
      {"model = \"m\"\nrun-ahead = \"on\"\n", ":2: run-ahead is a string, must be a boolean"},
      {"model = \"m\"\nworkers = [1]\n", ":2: workers is an array of other things"},
      {"model = \"m\"\nworkers = true\n", "is a boolean, must be an array or a string"},
      {"model = \"m\"\nqueue-max = 2000\n", ":2: queue-max: 2000 is outside of 1 to 1000"}};
  for (const auto& c : kCases) {
    Program p;
    const std::string file = WriteFile(c.text);
    const auto outcome = p.Parse({"--config", file.c_str()});
    ASSERT_FALSE(outcome.ok()) << c.text;
    EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(c.message));
  }
  Program missing;
  const auto outcome = missing.Parse({"--config", "/nonexistent.toml"});
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("/nonexistent.toml"));
}

TEST(OptionSetTest, HelpShowsUnitDefaultAndEnvironment) {
  Program p;
  const auto outcome = p.Parse({"--help"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, OptionSet::Outcome::kExit);
  EXPECT_THAT(p.out.str(), HasSubstr("  --queue-max N"));
  EXPECT_THAT(p.out.str(),
              HasSubstr("Requests that may wait [requests] (default 256) {PREGATE_QUEUE_MAX}"));
}

TEST(OptionSetTest, PrintsEffectiveValuesAsJson) {
  Program p;
  const auto outcome = p.Parse({"--model", "m\xff", "--print-config", "--queue-max", "9"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, OptionSet::Outcome::kExit);
  const auto json = nlohmann::json::parse(p.out.str());
  EXPECT_EQ(json["queue-max"]["value"], "9");
  EXPECT_EQ(json["queue-max"]["source"], "flag");
  EXPECT_EQ(json["kv-cache-bytes"]["value"], "512MiB");
  EXPECT_THAT(p.options.ToText(/*given_only=*/false),
              HasSubstr("queue-max=9 tokens=0 kv-cache-bytes=512MiB"));
  EXPECT_EQ(p.options.ToText(/*given_only=*/true), "model=m\xff queue-max=9");
  EXPECT_EQ(json["limits"]["ConfigFileBytesMax"]["unit"], "bytes");
}

TEST(OptionSetTest, TakesPositionalArguments) {
  OptionSet options("inspect", "Shows a checkpoint");
  std::string dir;
  bool json = false;
  options.String("dir", &dir, "Checkpoint").Positional().Required();
  options.Switch("json", &json, "Print JSON");
  const char* const argv[] = {"inspect", "some/dir", "--json"};
  std::ostringstream out;
  const auto outcome = options.Parse(
      3, argv, [](const char*) { return nullptr; }, out);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(dir, "some/dir");
  EXPECT_TRUE(json);
}

// Two alternatives, what goes with each, and a program's own name for a variable.
struct Chooser {
  OptionSet options{"choose", "Chooses"};
  std::string model, server;
  int32_t threads = 0, workers = 1;
  absl::Duration timeout = absl::ZeroDuration();
  std::map<std::string, std::string> environment;

  Chooser() {
    options.String("model", &model, "");
    options.String("server", &server, "");
    options.Int("threads", &threads, 0, 9, "", "");
    options.Duration("timeout-s", &timeout, absl::ZeroDuration(), absl::Hours(1), "");
    options.Int("workers", &workers, 1, 9, "", "").Environment("PREGATE_CHOOSE_WORKERS");
    options.Alternatives({"model", "server"});
    options.OnlyWith("model", {"threads"});
    options.OnlyWith("server", {"timeout-s"});
  }

  // The error, or which is chosen.
  std::string Parse(std::vector<const char*> args) {
    args.insert(args.begin(), "choose");
    std::ostringstream out;
    const auto outcome = options.Parse(
        static_cast<int>(args.size()), args.data(),
        [this](const char* name) -> const char* {
          const auto it = environment.find(name);
          return it == environment.end() ? nullptr : it->second.c_str();
        },
        out);
    if (!outcome.ok()) return std::string(outcome.status().message());
    return absl::StrCat("model=", model, " server=", server);
  }
};

TEST(OptionSetTest, AFlagWinsOverItsAlternativeInTheEnvironmentOrAFile) {
  const std::string file = WriteFile("model = \"file\"\n");
  const struct {
    std::map<std::string, std::string> environment;
    std::vector<const char*> args;
    const char* expected;
  } kCases[] = {
      {{{"PREGATE_MODEL", "env"}}, {"--server", "flag"}, "model= server=flag"},
      {{{"PREGATE_SERVER", "env"}}, {"--model", "flag"}, "model=flag server="},
      {{{"PREGATE_SERVER", "env"}}, {"--config", file.c_str()}, "model= server=env"},
      {{}, {"--config", file.c_str(), "--server", "flag"}, "model= server=flag"},
      {{{"PREGATE_MODEL", "env"}}, {"--server="}, "model=env server="},
      {{{"PREGATE_SERVER", ""}}, {"--model", "flag"}, "model=flag server="},
      {{},
       {"--model=a", "--server=b"},
       "give either --model or --server: there are --model and --server"},
      {{{"PREGATE_MODEL", "a"}, {"PREGATE_SERVER", "b"}},
       {},
       "give either --model or --server: there are PREGATE_MODEL and PREGATE_SERVER"},
  };
  for (const auto& c : kCases) {
    Chooser chooser;
    chooser.environment = c.environment;
    EXPECT_EQ(chooser.Parse(c.args), c.expected);
  }
}

TEST(OptionSetTest, WhatGoesWithAnotherAlternativeIsNamedUnlessTheEnvironmentSaysIt) {
  Chooser flag, environment, file;
  EXPECT_EQ(flag.Parse({"--model=m", "--timeout-s=5"}), "--timeout-s goes with --server");
  environment.environment = {{"PREGATE_TIMEOUT_S", "5"}};
  EXPECT_EQ(environment.Parse({"--model=m"}), "model=m server=");
  EXPECT_EQ(environment.timeout, absl::ZeroDuration());
  const std::string path = WriteFile("server = \"s\"\ntimeout-s = 5\n");
  EXPECT_EQ(file.Parse({"--model=m", "--config", path.c_str()}), "model=m server=");
  Chooser both;
  const std::string wrong = WriteFile("model = \"m\"\ntimeout-s = 5\n");
  EXPECT_THAT(both.Parse({"--config", wrong.c_str()}),
              HasSubstr(":2: timeout-s goes with --server"));
}

TEST(OptionSetTest, OtherProgramsVariablesAreNotLookedAt) {
  Chooser chooser;
  chooser.environment = {{"PREGATE_WORKERS", "a:1,b:2"},
                         {"PREGATE_PORT", "tcp://10.0.0.1:7600"},
                         {"PREGATE_CHOOSE_WORKERS", "3"}};
  EXPECT_EQ(chooser.Parse({"--model=m"}), "model=m server=");
  EXPECT_EQ(chooser.workers, 3);
}

TEST(OptionSetTest, NumbersKeepTheirDigits) {
  Program p;
  const std::string file = WriteFile(
      "model = \"m\"\nkeep = 0.12345678901234567\nkv-cache-bytes = 1_000_000_000\n"
      "drain-timeout-s = 30\nseed = \"18446744073709551615\"\n");
  const auto outcome = p.Parse({"--config", file.c_str(), "--print-config"});
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(p.keep, 0.12345678901234567);
  const auto json = nlohmann::json::parse(p.out.str());
  EXPECT_EQ(json["keep"]["value"], "0.12345678901234566");  // the same number
  EXPECT_EQ(json["kv-cache-bytes"]["value"], "1000000000B");
  EXPECT_EQ(json["drain-timeout-s"]["value"], "30");
  EXPECT_EQ(json["seed"]["value"], "18446744073709551615");
}

TEST(OptionSetTest, ListsOptionsForAShell) {
  Program p;
  ASSERT_TRUE(p.Parse({"--list-options"}).ok());
  EXPECT_THAT(p.out.str(), HasSubstr("--dtype|f32 bf16|Type of weights\n"));
  EXPECT_THAT(p.out.str(), HasSubstr("--run-ahead||Plan ahead"));
  EXPECT_THAT(p.out.str(), HasSubstr("--config||TOML file"));
}

TEST(OptionSetTest, AnIntOrAutoIsANumberOrNothing) {
  Program number, automatic, wrong;
  ASSERT_TRUE(number.Parse({"--model=m", "--slots=3"}).ok());
  EXPECT_EQ(number.slots, 3);
  EXPECT_THAT(number.options.ToText(/*given_only=*/true), HasSubstr("slots=3"));
  automatic.slots = 2;
  ASSERT_TRUE(automatic.Parse({"--model=m", "--slots", "auto"}).ok());
  EXPECT_EQ(automatic.slots, std::nullopt);
  EXPECT_THAT(automatic.options.ToText(/*given_only=*/false), HasSubstr("slots=auto"));
  EXPECT_THAT(std::string(wrong.Parse({"--model=m", "--slots=9"}).status().message()),
              HasSubstr("9 is outside of 0 to 8 experts"));
}

}  // namespace
}  // namespace pregate
