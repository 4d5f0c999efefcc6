// Structured logs: one line an event on stderr, as JSON or as text, with named fields.
//   log->Info("worker up", {{"rank", 0}, {"device", hello.device}});
#pragma once

#include <initializer_list>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "common/config/option_set.h"

namespace spdlog {
class logger;
}

namespace pregate {

struct LogOptions {
  std::string level = "info";
  std::string format = "text";
};
// Declares --log-level and --log-format.
void DeclareLogOptions(OptionSet& set, LogOptions* options);

// A name and a value that is text, number or truth.
class LogField {
 public:
  LogField(absl::string_view key, absl::string_view text) : key_(key), text_(text), quoted_(true) {}
  LogField(absl::string_view key, const char* text) : LogField(key, absl::string_view(text)) {}
  LogField(absl::string_view key, const std::string& text)
      : LogField(key, absl::string_view(text)) {}
  LogField(absl::string_view key, bool value) : key_(key), text_(value ? "true" : "false") {}
  LogField(absl::string_view key, double value);
  template <typename Int, typename = std::enable_if_t<std::is_integral_v<Int>>>
  LogField(absl::string_view key, Int value) : key_(key), text_(std::to_string(value)) {}

  absl::string_view key() const { return key_; }
  absl::string_view text() const { return text_; }
  bool quoted() const { return quoted_; }  // in JSON

 private:
  absl::string_view key_;
  std::string text_;
  bool quoted_ = false;
};

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Thread-safe; passed by pointer to whoever logs. Never logs prompts or generated text.
class Log {
 public:
  using Fields = std::initializer_list<LogField>;
  using Sink = std::function<void(absl::string_view line)>;  // called under a lock

  // To stderr. `service` is a field of every line: "scheduler", "router", "worker".
  Log(std::string service, const LogOptions& options);
  // To `sink` instead, for tests.
  Log(std::string service, const LogOptions& options, Sink sink);

  void Write(LogLevel level, absl::string_view message, Fields fields = {}) const;
  void Debug(absl::string_view message, Fields fields = {}) const;
  void Info(absl::string_view message, Fields fields = {}) const;
  void Warn(absl::string_view message, Fields fields = {}) const;
  void Error(absl::string_view message, Fields fields = {}) const;

 private:
  const std::string service_;
  const bool json_;
  std::shared_ptr<spdlog::logger> logger_;
};

// Who hears of what an engine does: each engine adds its events, its edge makes metrics and log
// lines of them.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnLog(LogLevel level, absl::string_view message, Log::Fields fields = {}) {}
};

}  // namespace pregate
