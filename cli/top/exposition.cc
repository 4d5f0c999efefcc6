#include "cli/top/exposition.h"

#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"

namespace pregate::cli {
namespace {

constexpr size_t kShownBytesMax = 80;

absl::Status Bad(absl::string_view why) { return absl::InvalidArgumentError(why); }

void SkipBlanks(absl::string_view* text) {
  while (!text->empty() && (text->front() == ' ' || text->front() == '\t')) text->remove_prefix(1);
}

bool IsNameByte(char c, bool first, bool colons) {
  return absl::ascii_isalpha(c) || c == '_' || (colons && c == ':') ||
         (!first && absl::ascii_isdigit(c));
}

// A metric's name (with colons) or a label's; empty when there is none.
std::string TakeName(absl::string_view* text, bool colons) {
  size_t size = 0;
  while (size < text->size() && IsNameByte((*text)[size], size == 0, colons)) ++size;
  const std::string name(text->substr(0, size));
  text->remove_prefix(size);
  return name;
}

absl::StatusOr<std::string> TakeQuoted(absl::string_view* text) {
  if (!absl::ConsumePrefix(text, "\"")) return Bad("a label's value is not quoted");
  std::string value;
  while (!text->empty()) {
    char c = text->front();
    text->remove_prefix(1);
    if (c == '"') return value;
    if (c == '\\') {
      if (text->empty()) break;
      c = text->front();
      text->remove_prefix(1);
      if (c == 'n') {
        c = '\n';
      } else if (c != '\\' && c != '"') {
        return Bad("a label's value has an unknown escape");
      }
    }
    value += c;
  }
  return Bad("a label's value does not end");
}

absl::Status TakeLabels(absl::string_view* text, Sample* sample) {
  if (!absl::ConsumePrefix(text, "{")) return absl::OkStatus();
  while (true) {
    SkipBlanks(text);
    if (absl::ConsumePrefix(text, "}")) return absl::OkStatus();
    std::string name = TakeName(text, false);
    if (name.empty()) return Bad("a label has no name");
    SkipBlanks(text);
    if (!absl::ConsumePrefix(text, "=")) return Bad("a label has no '='");
    SkipBlanks(text);
    ASSIGN_OR_RETURN(std::string value, TakeQuoted(text));
    if (sample->labels.size() == kSampleLabelsMax) return Bad("too many labels");
    if (!sample->labels.emplace(std::move(name), std::move(value)).second) {
      return Bad("a label comes twice");
    }
    SkipBlanks(text);
    if (!absl::ConsumePrefix(text, ",") && !absl::StartsWith(*text, "}")) {
      return Bad("no ',' or '}' after a label");
    }
  }
}

std::optional<double> ParseValue(absl::string_view word) {
  double value = 0;
  if (!absl::SimpleAtod(word, &value)) return std::nullopt;  // takes Inf, +Inf, -Inf, NaN too
  return value;
}

absl::string_view TakeWord(absl::string_view* text) {
  SkipBlanks(text);
  const absl::string_view word = text->substr(0, text->find_first_of(" \t"));
  text->remove_prefix(word.size());
  return word;
}

absl::StatusOr<Sample> ParseSample(absl::string_view line) {
  Sample sample;
  sample.name = TakeName(&line, true);
  if (sample.name.empty()) return Bad("no metric's name");
  SkipBlanks(&line);
  RETURN_IF_ERROR(TakeLabels(&line, &sample));
  const std::optional<double> value = ParseValue(TakeWord(&line));
  if (!value) return Bad("no number");
  sample.value = *value;
  const absl::string_view timestamp = TakeWord(&line);
  int64_t ms = 0;
  if (!timestamp.empty() && !absl::SimpleAtoi(timestamp, &ms)) return Bad("a bad timestamp");
  SkipBlanks(&line);
  if (!line.empty()) return Bad("text behind the sample");
  return sample;
}

}  // namespace

absl::StatusOr<std::vector<Sample>> ParseExposition(absl::string_view text) {
  if (text.size() > kExpositionBytesMax) {
    return Bad(absl::StrCat("metrics have ", text.size(), " bytes, at most ", kExpositionBytesMax));
  }
  std::vector<Sample> samples;
  for (int number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    absl::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    absl::ConsumeSuffix(&line, "\r");
    SkipBlanks(&line);
    if (line.empty() || line.front() == '#') continue;
    if (samples.size() == kExpositionSamplesMax) {
      return Bad(absl::StrCat("metrics have more than ", kExpositionSamplesMax, " samples"));
    }
    auto sample = ParseSample(line);
    if (!sample.ok()) {
      return Bad(absl::StrCat("metrics, line ", number, ": ", sample.status().message(), ": '",
                              absl::CHexEscape(line.substr(0, kShownBytesMax)), "'"));
    }
    samples.push_back(*std::move(sample));
  }
  return samples;
}

}  // namespace pregate::cli
