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
  int32_t queue_max = 256;
  int64_t kv_cache_bytes = 512 << 20;
  absl::Duration drain_timeout = absl::Seconds(30);
  double keep = 0.75;
  bool run_ahead = true;
  std::vector<std::string> workers;
  std::optional<uint64_t> seed;
  std::map<std::string, std::string> environment;
  std::ostringstream out;

  Program() {
    options.String("model", &model, "Model directory").Required();
    options.Choice("dtype", &dtype, {"f32", "bf16"}, "Type of weights").ClusterWide();
    options.Int("queue-max", &queue_max, 1, 1000, "requests", "Requests that may wait");
    options.Bytes("kv-cache-bytes", &kv_cache_bytes, 1 << 20, int64_t{1} << 40, "KV cache");
    options.Duration("drain-timeout-s", &drain_timeout, absl::Seconds(1), absl::Seconds(600),
                     "Wait for streams");
    options.Double("keep", &keep, 0, 1, "", "Share kept");
    options.Switch("run-ahead", &run_ahead, "Plan ahead of results");
    options.Strings("workers", &workers, "Addresses");
    options.OptionalUint64("seed", &seed, "Random seed");
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

TEST(OptionSetTest, ErrorsNameOptionAndValue) {
  const struct {
    std::vector<const char*> args;
    const char* name;
    const char* value;
  } kCases[] = {
      {{"--model", "m", "--queue-max", "0"}, "--queue-max", "0 is outside of 1 to 1000 requests"},
      {{"--model", "m", "--queue-max", "many"}, "--queue-max", "'many'"},
      {{"--model", "m", "--dtype", "f8"}, "--dtype", "'f8' is not one of f32, bf16"},
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
  } kCases[] = {{"model = \"m\"\nspeed = 3\n", "unknown key speed"},
                {"model = \"m\"\n[worker]\nqueue-max = 3\n", "section worker"},
                {"model = \"m\"\nqueue-max = 3\nmodel = \"n\"\n", "model is given twice"},
                {"model = \"m\"\nqueue-max = \"many\"\n", "queue-max: 'many'"}};
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
  EXPECT_THAT(p.out.str(), HasSubstr("Requests that may wait [requests] (default 256)"));
  EXPECT_THAT(p.out.str(), HasSubstr("PREGATE_QUEUE_MAX"));
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
  EXPECT_THAT(p.options.ToText(), HasSubstr("queue-max=9 kv-cache-bytes=512MiB"));
}

TEST(OptionSetTest, ClusterDigestFollowsClusterWideOptionsOnly) {
  Program a, b, c;
  ASSERT_TRUE(a.Parse({"--model", "m"}).ok());
  ASSERT_TRUE(b.Parse({"--model", "n", "--queue-max", "5"}).ok());
  ASSERT_TRUE(c.Parse({"--model", "m", "--dtype", "bf16"}).ok());
  EXPECT_EQ(a.options.ClusterDigest(), b.options.ClusterDigest());
  EXPECT_NE(a.options.ClusterDigest(), c.options.ClusterDigest());
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

}  // namespace
}  // namespace pregate
