// --api-tokens-file as it is now: read again when it changes.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/telemetry/log.h"
#include "gateway_service/core/quota.h"

namespace pregate::gateway {

absl::StatusOr<ApiTokens> ReadApiTokensFile(const std::string& path);

// Thread-safe. A thread looks for a changed file each kApiTokensRefreshMs: one that fails a check is
// not taken, the one before stays; both are logged, once for each content.
class TokenFile {
 public:
  // Errors name --api-tokens-file. `log` outlives the object.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Load(const std::string& path, const Log* log);
  ~TokenFile();

  // Of a request with this token. UNAUTHENTICATED: it is missing or not known. RESOURCE_EXHAUSTED, with
  // a time to wait: it has used what it may. OK: the request runs until Release.
  struct Verdict {
    absl::Status status;
    absl::Duration retry_after;
    ApiToken token;
  };
  Verdict Admit(absl::string_view token);
  // What a request has cost, so far.
  void Charge(const ApiToken& token, int64_t tokens);
  void Release(const ApiToken& token);
  // UNAUTHENTICATED, or OK, without anything counted.
  absl::Status Check(absl::string_view token) const;

 private:
  TokenFile(std::string path, ApiTokens tokens, const Log* log);
  void Refresh();
  absl::StatusOr<ApiToken> Find(absl::string_view token) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const Log* const log_;
  std::string seen_;  // the file's text, taken or refused; the thread's alone
  mutable absl::Mutex mutex_;
  ApiTokens tokens_ ABSL_GUARDED_BY(mutex_);
  QuotaTable quotas_ ABSL_GUARDED_BY(mutex_);
  absl::Notification stop_;
  std::thread watcher_;
};

}  // namespace pregate::gateway
