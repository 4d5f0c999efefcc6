#include "common/tls/tls_files.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/config/limits.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Load(const TlsOptions& options) {
  ASSIGN_OR_RETURN(TlsPem pem, ReadTlsDir(options.dir));
  ASSIGN_OR_RETURN(TlsMaterial material, ParseTlsMaterial(pem, options));
  return std::unique_ptr<TlsFiles>(new TlsFiles(options, std::move(pem), std::move(material)));
}

TlsFiles::TlsFiles(TlsOptions options, TlsPem pem, TlsMaterial material)
    : options_(std::move(options)),
      looked_at_(absl::Now()),
      seen_(std::move(pem)),
      current_(std::make_shared<const TlsMaterial>(std::move(material))) {}

std::shared_ptr<const TlsMaterial> TlsFiles::Current() {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = absl::Now();
  if (now - looked_at_ >= absl::Milliseconds(kTlsRefreshMs) || now < looked_at_) {
    looked_at_ = now;
    Refresh();
  }
  return current_;
}

// A file that is being replaced may be missing or not fit the others for a moment: the next look
// finds it whole, and only a content that stays is complained about.
void TlsFiles::Refresh() {
  auto pem = ReadTlsDir(options_.dir);
  if (pem.ok() && *pem == seen_) return;
  absl::Status error = pem.status();
  if (pem.ok()) {
    seen_ = *pem;
    auto material = ParseTlsMaterial(*pem, options_);
    // Another role under a running process is a mistake of whoever put it there.
    if (material.ok() && material->role != current_->role) {
      material = absl::InvalidArgumentError(
          absl::StrCat("--tls-dir: ", options_.dir, "/", kTlsCertificateFile, ": role ",
                       RoleName(material->role), " in place of ", RoleName(current_->role)));
    }
    if (material.ok()) current_ = std::make_shared<const TlsMaterial>(*std::move(material));
    error = material.status();
  }
  const bool is_news = pem.ok() || error != last_error_;
  last_error_ = error;
  if (is_news && on_change_) on_change_({error, current_.get()});
}

}  // namespace pregate
