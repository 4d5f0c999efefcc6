// One declaration gives an option its flag, environment variable, file key, help, check and print:
// `kv-cache-bytes` is --kv-cache-bytes, PREGATE_KV_CACHE_BYTES and `kv-cache-bytes = "2GiB"` in the
// TOML file that --config names. A flag beats the environment, which beats the file.
#pragma once

#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/config/command_line.h"
#include "common/config/config_file.h"

namespace pregate {

struct OptionHelp;

enum class OptionSource { kDefault, kFile, kEnvironment, kFlag };  // weakest first
const char* OptionSourceName(OptionSource source);

// One declared option; returned by OptionSet's declarations so that traits can be chained:
//   options.Int("queue-max", &queue_max, 1, 65536, "requests", "requests that may wait");
//   options.String("model", &model, "model directory or GGUF file").Required();
class Option {
 public:
  Option& Required() { return required_ = true, *this; }
  // Also accepted without its flag, in the order of declaration.
  Option& Positional() { return positional_ = true, *this; }
  // Instead of the name's own, where that means something else to another program.
  Option& Environment(std::string variable) { return environment_ = std::move(variable), *this; }

 private:
  friend class OptionSet;
  std::string name_, environment_, group_, unit_, placeholder_, description_;
  std::vector<std::string> choices_;
  bool required_ = false, positional_ = false;
  bool is_switch_ = false, is_list_ = false, is_built_in_ = false;
  std::vector<ConfigValue::Type> file_types_;
  std::function<absl::Status(const std::vector<std::string>& texts)> parse_;
  std::function<std::string()> print_;
  OptionSource source_ = OptionSource::kDefault;
};

// Declare everything, then Parse once. Targets must outlive the set and hold their defaults when
// declared. Not thread-safe. Environment variables that are empty count as not set; those that no
// option has are not looked at.
class OptionSet {
 public:
  OptionSet(std::string program, std::string description);
  ~OptionSet();
  OptionSet(const OptionSet&) = delete;
  OptionSet& operator=(const OptionSet&) = delete;

  // The heading in --help of what is declared from now on; without one, that of the rest.
  void Group(std::string heading = "Options") { group_ = std::move(heading); }

  // Names are lower-case words joined by '-'. Ranges include both ends.
  Option& String(std::string name, std::string* value, std::string description);
  // No item holds a comma, which separates them.
  Option& Strings(std::string name, std::vector<std::string>* value, std::string description);
  Option& Choice(std::string name, std::string* value, std::vector<std::string> choices,
                 std::string description);
  Option& Int(std::string name, int32_t* value, int32_t min, int32_t max, std::string unit,
              std::string description);
  // A large number, which may have k or M behind it: "200k", "1.5M".
  Option& Count(std::string name, int32_t* value, int32_t min, int32_t max, std::string unit,
                std::string description);
  // "auto" is the value that is not there.
  Option& IntOrAuto(std::string name, std::optional<int32_t>* value, int32_t min, int32_t max,
                    std::string unit, std::string description);
  Option& OptionalUint64(std::string name, std::optional<uint64_t>* value, std::string description);
  Option& Double(std::string name, double* value, double min, double max, std::string unit,
                 std::string description);
  Option& Bytes(std::string name, int64_t* value, int64_t min, int64_t max,
                std::string description);
  // `name` ends in "-s" or "-ms", which is the value's unit.
  Option& Duration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                   std::string description);
  Option& Switch(std::string name, bool* value, std::string description);

  // Of these, all declared, what the strongest source gives takes effect, and the others keep their
  // defaults. One source that gives two is an error, unless they may stand `together`. Empty texts
  // choose nothing.
  void Alternatives(std::vector<std::string> names, bool together = false);
  // Those of `names` go with `alternative` only. Beside another one they are an error where that
  // one's source, or a stronger one, gives them. The environment's, and weaker ones, keep quiet.
  void OnlyWith(std::string alternative, std::vector<std::string> names);

  // kExit: --help, --version, --print-config or --list-options was answered on `out`.
  enum class Outcome { kRun, kExit };
  using Environment = std::function<const char*(const char* name)>;  // nullptr when not set
  // REQUIRES: called once. Errors name option, source and value.
  absl::StatusOr<Outcome> Parse(int argc, const char* const* argv, const Environment& environment,
                                std::ostream& out);
  // The same with the process's environment and standard output.
  absl::StatusOr<Outcome> Parse(int argc, const char* const* argv);

  // {"name": {"value": text, "unit": text, "source": text}, ...} of all effective values, and
  // {"limits": {"Name": {"value": number, "unit": text, "meaning": text}, ...}}.
  std::string ToJson() const;
  // `name=value` of every option, blank-separated, in order of declaration; or of those alone that
  // are not at their defaults.
  std::string ToText(bool given_only) const;
  // "--name=value" of all that were given, from whichever source: for another program with the same
  // options.
  std::vector<std::string> ToArguments() const;
  // Whether a flag, the environment or the file set it. REQUIRES: `name` is declared.
  OptionSource SourceOf(absl::string_view name) const;

 private:
  // What the strongest source that names an option says it is.
  struct Candidate {
    OptionSource source;
    std::string where;  // for errors: "--name", "PREGATE_NAME", "FILE:LINE: name"
    std::vector<std::string> texts;
    bool chooses() const { return !texts.empty() && !texts.front().empty(); }
  };
  using Candidates = std::map<std::string, Candidate>;  // by option
  struct AlternativeNames {
    std::vector<std::string> names;
    bool together;
  };
  struct Companions {
    std::string alternative;
    std::vector<std::string> names;
  };
  // Those that every program has.
  struct BuiltIn {
    std::string config;
    bool print_config = false, help = false, version = false, list_options = false;
  };

  Option& Add(std::string name, std::string unit, std::string description);
  // With one text.
  Option& AddScalar(std::string name, std::string unit, std::string description,
                    std::function<absl::Status(absl::string_view)> parse);
  Option& Find(absl::string_view name) const;
  std::vector<OptionHelp> Help() const;

  static std::optional<Candidate> FromFlagOrEnvironment(const Option& option,
                                                        const FlagTexts& flags,
                                                        const Environment& environment);
  absl::StatusOr<Candidate> FromFile(const Option& option, const ConfigValue& value) const;
  absl::Status CheckKeys(const ConfigFile& file) const;
  absl::StatusOr<Candidates> Collect(const FlagTexts& flags, const Environment& environment) const;
  // The strongest source that chooses one of `names`; kDefault: none does.
  static OptionSource StrongestOf(const std::vector<std::string>& names,
                                  const Candidates& candidates);
  absl::Status ChooseAlternatives(Candidates* candidates) const;
  absl::Status DropCompanions(Candidates* candidates) const;
  static absl::Status Apply(Option& option, const Candidate& candidate);
  absl::Status ApplyAll(const Candidates& candidates);

  const std::string program_, description_;
  std::string group_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<AlternativeNames> alternatives_;
  std::vector<Companions> companions_;
  BuiltIn built_in_;
};

// "kv-cache-bytes" -> "PREGATE_KV_CACHE_BYTES".
std::string EnvironmentName(absl::string_view option_name);

}  // namespace pregate
