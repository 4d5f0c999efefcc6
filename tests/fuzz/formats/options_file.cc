// A --config file with a command line beside it, lines of which are arguments: up to a NUL, the
// arguments; behind it, the file.
#include <sstream>

#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "tests/fuzz/input_files.h"

namespace pregate::fuzz::options_file {
namespace {

struct Options {
  std::string text = "default", choice = "one";
  std::vector<std::string> list;
  int32_t number = 3;
  std::optional<uint64_t> seed;
  std::optional<int32_t> slots;
  double ratio = 0.5;
  int64_t bytes = 1 << 20;
  absl::Duration time = absl::Seconds(1);
  bool on = false;
};

void Declare(OptionSet* set, Options* options) {
  set->String("text", &options->text, "a text").Positional();
  set->Strings("list", &options->list, "texts");
  set->Choice("choice", &options->choice, {"one", "two"}, "a word");
  set->Int("number", &options->number, -5, 1000, "things", "a number");
  set->OptionalUint64("seed", &options->seed, "a seed");
  set->IntOrAuto("slots", &options->slots, 0, 256, "", "a number or auto");
  set->Double("ratio", &options->ratio, 0, 1, "", "a part");
  set->Bytes("kv-cache-bytes", &options->bytes, 0, int64_t{1} << 40, "memory");
  set->Duration("wait-s", &options->time, absl::ZeroDuration(), absl::Hours(1), "a time");
  set->Switch("on", &options->on, "on or off");
}

absl::StatusOr<OptionSet::Outcome> Parse(OptionSet* set,
                                         const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"program"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  return set->Parse(
      static_cast<int>(argv.size()), argv.data(), [](const char*) { return nullptr; }, out);
}

bool Run(std::string_view input) {
  static const MemoryFile file;
  const size_t end = std::min(input.find('\0'), input.size());
  std::vector<std::string> arguments = {
      "--config", file.Holding(input.substr(std::min(input.size(), end + 1)))};
  for (const absl::string_view line : absl::StrSplit(AbslView(input.substr(0, end)), '\n')) {
    if (!line.empty()) arguments.emplace_back(line);
  }
  Options options;
  OptionSet set("program", "a program");
  Declare(&set, &options);
  const auto outcome = Parse(&set, arguments);
  if (!outcome.ok()) return false;
  PREGATE_CHECK(options.number >= -5 && options.number <= 1000);
  PREGATE_CHECK(options.choice == "one" || options.choice == "two");
  PREGATE_CHECK(options.ratio >= 0 && options.ratio <= 1);
  set.ToText(/*given_only=*/false);
  return true;
}

std::vector<std::string> Seeds() {
  using namespace std::string_literals;
  return {"--number=7\n--on"s + "\0"s +
              "# all of them\ntext = \"a b\"\nlist = [\"x\", \"y\"]\nchoice = 'two'\n"
              "seed = \"18446744073709551615\"\nratio = 0.25\nkv-cache-bytes = \"2GiB\"\nwait-s = "
              "2.5\n",
          "word\n--kv-cache-bytes\n1MiB\0number = 9\non = true\n"s};
}

const Registration registration(
    {.name = "options_file", .seeds = Seeds, .run = Run, .bytes_max = 512});

}  // namespace
}  // namespace pregate::fuzz::options_file
