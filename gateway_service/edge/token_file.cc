#include "gateway_service/edge/token_file.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/files.h"
#include "common/base/gateway_limits.h"
#include "common/base/json.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"

namespace pregate::gateway {
namespace {

absl::StatusOr<std::string> ReadText(const std::string& path) {
  auto text = ReadInput(path, kApiTokensFileBytesMax);
  if (text.ok()) return text;
  return absl::InvalidArgumentError(absl::StrCat("--api-tokens-file: ", text.status().message()));
}

absl::StatusOr<ApiTokens> Parse(const std::string& path, const std::string& text) {
  const std::string where = absl::StrCat("--api-tokens-file: ", path);
  ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(text, where));
  return ApiTokens::From(file, where);
}

}  // namespace

absl::StatusOr<ApiTokens> ReadApiTokensFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  return Parse(path, text);
}

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Load(const std::string& path,
                                                           const Log* log) {
  ASSIGN_OR_RETURN(ApiTokens tokens, ReadApiTokensFile(path));
  return std::unique_ptr<TokenFile>(new TokenFile(path, std::move(tokens), log));
}

TokenFile::TokenFile(std::string path, ApiTokens tokens, const Log* log)
    : path_(std::move(path)), log_(log), tokens_(std::move(tokens)) {
  watcher_ = std::thread([this] {
    while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(kApiTokensRefreshMs)))
      Refresh();
  });
}

TokenFile::~TokenFile() {
  stop_.Notify();
  watcher_.join();
}

void TokenFile::Refresh() {
  const auto text = ReadText(path_);
  // A file that is being replaced may be missing for a moment; one that stays away is news once.
  const std::string content = text.ok() ? *text : std::string(text.status().message());
  if (content == seen_) return;
  seen_ = content;
  auto tokens = text.ok() ? Parse(path_, *text) : text.status();
  if (!tokens.ok()) {
    log_->Warn("api tokens not taken", {{"reason", tokens.status().message()}});
    return;
  }
  absl::MutexLock lock(&mutex_);
  tokens_ = *std::move(tokens);
  quotas_.Prune(tokens_);
  log_->Info("api tokens taken", {{"file", path_}, {"tokens", tokens_.size()}});
}

absl::StatusOr<ApiToken> TokenFile::Find(absl::string_view token) const {
  if (token.empty()) {
    return BadToken("no API token was sent: give it as \"Authorization: Bearer TOKEN\"");
  }
  const ApiToken* const found = tokens_.Find(token);
  if (found == nullptr) return BadToken("the API token that was sent is not known");
  return *found;
}

absl::Status TokenFile::Check(absl::string_view token) const {
  absl::MutexLock lock(&mutex_);
  return Find(token).status();
}

TokenFile::Verdict TokenFile::Admit(absl::string_view token) {
  absl::MutexLock lock(&mutex_);
  const auto found = Find(token);
  if (!found.ok()) return {.status = found.status()};
  QuotaTable::Verdict verdict = quotas_.Admit(*found, absl::Now());
  return {verdict.status, verdict.retry_after, *found};
}

void TokenFile::Charge(const ApiToken& token, int64_t tokens) {
  absl::MutexLock lock(&mutex_);
  quotas_.Charge(token, tokens, absl::Now());
}

void TokenFile::Release(const ApiToken& token) {
  absl::MutexLock lock(&mutex_);
  quotas_.Release(token);
}

}  // namespace pregate::gateway
