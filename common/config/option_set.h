// One declaration gives an option its flag, environment variable, file key, help, check and print:
// `kv-cache-bytes` is --kv-cache-bytes, PREGATE_KV_CACHE_BYTES and `kv-cache-bytes = "2GiB"` in the
// file that --config names (TOML or INI). A flag beats the environment, which beats the file.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/config/command_line.h"

namespace pregate {

enum class OptionSource { kDefault, kFile, kEnvironment, kFlag };
const char* OptionSourceName(OptionSource source);

// One declared option; returned by OptionSet's declarations so that traits can be chained:
//   options.Int("queue-max", &queue_max, 1, 65536, "requests", "requests that may wait");
//   options.String("model", &model, "model directory or GGUF file").Required();
class Option {
 public:
  Option& Required() { return required_ = true, *this; }
  // The value must be the same in every process of a cluster: it enters ClusterDigest().
  Option& ClusterWide() { return cluster_wide_ = true, *this; }
  // Also accepted without its flag, in the order of declaration.
  Option& Positional() { return positional_ = true, *this; }

 private:
  friend class OptionSet;
  std::string name_, unit_, description_;
  bool required_ = false, cluster_wide_ = false, positional_ = false, is_switch_ = false;
  std::function<absl::Status(absl::string_view)> parse_;
  std::function<std::string()> print_;
  OptionSource source_ = OptionSource::kDefault;
};

// Declare everything, then Parse once. Targets must outlive the set and hold their defaults when
// declared. Not thread-safe. Environment variables that are empty count as not set.
class OptionSet {
 public:
  OptionSet(std::string program, std::string description);
  ~OptionSet();
  OptionSet(const OptionSet&) = delete;
  OptionSet& operator=(const OptionSet&) = delete;

  // Names are lower-case words joined by '-'. Ranges include both ends.
  Option& String(std::string name, std::string* value, std::string description);
  Option& Strings(std::string name, std::vector<std::string>* value, std::string description);
  Option& Choice(std::string name, std::string* value, std::vector<std::string> choices,
                 std::string description);
  Option& Int(std::string name, int32_t* value, int32_t min, int32_t max, std::string unit,
              std::string description);
  Option& OptionalUint64(std::string name, std::optional<uint64_t>* value, std::string description);
  Option& Double(std::string name, double* value, double min, double max, std::string unit,
                 std::string description);
  Option& Bytes(std::string name, int64_t* value, int64_t min, int64_t max,
                std::string description);
  // `name` ends in "-s" or "-ms", which is the value's unit.
  Option& Duration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                   std::string description);
  Option& Switch(std::string name, bool* value, std::string description);

  enum class Outcome { kRun, kExit };  // kExit: --help or --print-config was answered on `out`
  using Environment = std::function<const char*(const char* name)>;  // nullptr when not set
  // REQUIRES: called once. Errors name option, source and value.
  absl::StatusOr<Outcome> Parse(int argc, const char* const* argv, const Environment& environment,
                                std::ostream& out);
  // The same with the process's environment and standard output.
  absl::StatusOr<Outcome> Parse(int argc, const char* const* argv);

  // {"name": {"value": text, "unit": text, "source": text}, ...} of all effective values.
  std::string ToJson() const;
  // `name=value` of every option, blank-separated, in order of declaration.
  std::string ToText() const;
  // SHA-256 over `name=value\n` of the options marked ClusterWide, by name.
  std::string ClusterDigest() const;
  // Whether a flag, the environment or the file set it. REQUIRES: `name` is declared.
  OptionSource SourceOf(absl::string_view name) const;

 private:
  Option& Add(std::string name, std::string unit, std::string description);
  static absl::Status Apply(Option& option, OptionSource source, absl::string_view where,
                            absl::string_view text);
  absl::Status Resolve(const CommandLineValues& line, const Environment& environment);

  const std::string program_, description_;
  std::vector<std::unique_ptr<Option>> options_;
  std::string config_file_;
};

// "kv-cache-bytes" -> "PREGATE_KV_CACHE_BYTES".
std::string EnvironmentName(absl::string_view option_name);

}  // namespace pregate
