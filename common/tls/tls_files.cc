#include "common/tls/tls_files.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"

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

void TlsFiles::set_on_change(OnChange on_change, HandOver hand_over) {
  absl::MutexLock lock(&look_mutex_);
  on_change_ = std::move(on_change);
  hand_over_ = std::move(hand_over);
}

std::shared_ptr<const TlsMaterial> TlsFiles::Current() {
  absl::MutexLock lock(&look_mutex_);
  const absl::Time now = absl::Now();
  if (now - looked_at_ >= absl::Milliseconds(kTlsRefreshMs) || now < looked_at_) {
    looked_at_ = now;
    Refresh();
  }
  return Taken();
}

std::shared_ptr<const TlsMaterial> TlsFiles::Taken() const {
  absl::MutexLock lock(&mutex_);
  return current_;
}

absl::StatusOr<TlsMaterial> TlsFiles::Check(const TlsPem& pem) const {
  ASSIGN_OR_RETURN(TlsMaterial material, ParseTlsMaterial(pem, options_));
  // Another role under a running process is a mistake of whoever put it there.
  const Role own = Taken()->role;
  if (material.role == own) return material;
  return absl::InvalidArgumentError(
      absl::StrCat("--tls-dir: ", options_.dir, "/", kTlsCertificateFile, ": role ",
                   RoleName(material.role), " in place of ", RoleName(own)));
}

// A file that is being replaced may be missing or not fit the others for a moment: the next look
// finds it whole, and only a content that stays is complained about.
void TlsFiles::Refresh() {
  const auto pem = ReadTlsDir(options_.dir);
  if (pem.ok() && *pem == Taken()->pem) {
    seen_ = *pem;
    last_error_ = absl::OkStatus();
    return;
  }
  const bool is_new_content = pem.ok() && !(*pem == seen_);
  if (pem.ok()) seen_ = *pem;
  auto material = pem.ok() ? Check(*pem) : pem.status();
  absl::Status error = material.status();
  if (error.ok() && hand_over_) error = hand_over_(*material);
  if (error.ok()) {
    absl::MutexLock lock(&mutex_);
    current_ = std::make_shared<const TlsMaterial>(*std::move(material));
  }
  const bool is_news = is_new_content || error != last_error_;
  last_error_ = error;
  if (is_news && on_change_) on_change_({error, Taken().get()});
}

}  // namespace pregate
