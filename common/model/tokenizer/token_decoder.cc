#include "common/model/tokenizer/token_decoder.h"

#include <charconv>
#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/tokenizer_alphabet.h"

namespace pregate {
namespace {

// The byte of "<0x0A>", in capital letters or small ones.
std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

absl::Status WrongPlace(const JsonStep& step) {
  return absl::UnimplementedError(
      absl::StrCat(step.object.where(), ": ", step.type, " is not supported at this place"));
}

std::string ReplaceCharacter(const std::string& text, const std::string& from, const char* to) {
  return absl::StrReplaceAll(text, {{from, to}});
}

}  // namespace

std::string TokenDecoder::TextStep::Apply(std::string_view token) const {
  if (!pattern) {
    for (int64_t i = 0; i < strip_start && token.starts_with(content); ++i) {
      token.remove_prefix(content.size());
    }
    for (int64_t i = 0; i < strip_stop && token.ends_with(content); ++i) {
      token.remove_suffix(content.size());
    }
    return std::string(token);
  }
  std::vector<TextMatch> matches;
  pattern->FindAll(token, &matches);
  std::string out;
  size_t done = 0;
  for (const TextMatch& match : matches) {
    out.append(token.substr(done, match.begin - done)).append(content);
    done = match.end;
  }
  return out.append(token.substr(done));
}

absl::StatusOr<TokenDecoder> TokenDecoder::Make(const nlohmann::json& value,
                                                const std::string& where) {
  ASSIGN_OR_RETURN(const auto steps, StepsOf(value, where, "decoders"));
  if (steps.empty()) {
    return absl::UnimplementedError(absl::StrCat(where, ": there is none, or it has no steps"));
  }
  TokenDecoder out;
  Stage stage = Stage::kTokens;
  for (const JsonStep& step : steps) RETURN_IF_ERROR(out.Add(step, &stage));
  return out;
}

absl::Status TokenDecoder::Add(const JsonStep& step, Stage* stage) {
  const bool on_tokens = *stage == Stage::kTokens;
  if (step.type == "Fuse") {
    RETURN_IF_ERROR(CheckKeys(step.object, {"type"}));
    if (*stage != Stage::kEnd) *stage = Stage::kWhole;
    return absl::OkStatus();
  }
  if (step.type == "Strip") return AddStrip(step.object, stage);
  if (step.type == "Replace") return on_tokens ? AddReplace(step.object) : WrongPlace(step);
  if (step.type == "ByteFallback") {
    RETURN_IF_ERROR(CheckKeys(step.object, {"type"}));
    if (!on_tokens) return WrongPlace(step);
    byte_fallback_ = true;
    *stage = Stage::kBytesJoined;
    return absl::OkStatus();
  }
  const bool is_byte_level = step.type == "ByteLevel";
  if (!is_byte_level && step.type != "Metaspace") return UnknownStep(step);
  if (!on_tokens) return WrongPlace(step);
  *stage = Stage::kEnd;
  if (!is_byte_level) return AddMetaspace(step.object);
  byte_level_ = true;
  return CheckKeys(step.object, {"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

absl::Status TokenDecoder::AddReplace(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "pattern", "content"}));
  ASSIGN_OR_RETURN(JsonPattern pattern, PatternOf(step));
  ASSIGN_OR_RETURN(std::string content, step.String("content"));
  if (content.size() > kTokenTextBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(step.where(), ": content of ", content.size(),
                                                   " bytes, at most ", kTokenTextBytesMax));
  }
  steps_.push_back({.pattern = std::move(pattern.pattern), .content = std::move(content)});
  return absl::OkStatus();
}

absl::Status TokenDecoder::AddStrip(const JsonObject& step, Stage* stage) {
  RETURN_IF_ERROR(CheckKeys(step, {"type", "content", "start", "stop"}));
  ASSIGN_OR_RETURN(std::string content, step.String("content"));
  ASSIGN_OR_RETURN(const int64_t start, step.Int("start", 0, kTokenTextBytesMax));
  ASSIGN_OR_RETURN(const int64_t stop, step.Int("stop", 0, kTokenTextBytesMax));
  if (content.empty() || NextUtf8(content, 0).length != content.size()) {
    return absl::InvalidArgumentError(absl::StrCat(step.where(), ": content is not one character"));
  }
  if (*stage == Stage::kTokens) {
    steps_.push_back({.content = std::move(content), .strip_start = start, .strip_stop = stop});
    return absl::OkStatus();
  }
  if (*stage != Stage::kWhole || content != " " || start > 1 || stop > 0) {
    return absl::UnimplementedError(absl::StrCat(
        step.where(), ": of a whole text, behind Fuse, one space at its start can be stripped"));
  }
  if (start == 1) leading_spaces_ = LeadingSpaces::kDropOfText;
  *stage = Stage::kEnd;
  return absl::OkStatus();
}

absl::Status TokenDecoder::AddMetaspace(const JsonObject& step) {
  RETURN_IF_ERROR(CheckKeys(
      step, {"type", "replacement", "str_rep", "prepend_scheme", "add_prefix_space", "split"}));
  ASSIGN_OR_RETURN(metaspace_, step.String("replacement"));
  if (metaspace_.empty() || NextUtf8(metaspace_, 0).length != metaspace_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(step.where(), ": replacement is not one character"));
  }
  ASSIGN_OR_RETURN(const std::string scheme, step.String("prepend_scheme", "always"));
  ASSIGN_OR_RETURN(const bool prepends, step.Bool("add_prefix_space", true));
  if (prepends && scheme != "never") leading_spaces_ = LeadingSpaces::kDropOfFirstToken;
  return absl::OkStatus();
}

DecodedToken TokenDecoder::Decode(std::string token) const {
  for (const TextStep& step : steps_) token = step.Apply(token);
  if (byte_level_) {
    std::string bytes = BytesFromAlphabet(token).value_or(token);
    return {bytes, bytes, TokenForm::kBytes};
  }
  const std::optional<char> byte = byte_fallback_ ? ByteOfToken(token) : std::nullopt;
  if (byte) return {std::string(1, *byte), std::string(1, *byte), TokenForm::kByteRun};
  if (metaspace_.empty()) return {token, token, TokenForm::kText};
  return {ReplaceCharacter(token, metaspace_, " "), ReplaceCharacter(token, metaspace_, ""),
          TokenForm::kText};
}

}  // namespace pregate
