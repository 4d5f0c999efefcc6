// The files of --tls-dir as they are now: read again when they change, so that certificates rotate
// under a running process.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/tls/tls_material.h"

namespace pregate {

// Thread-safe. Files are looked at when they are asked for, at most every kTlsRefreshMs.
class TlsFiles {
 public:
  // Errors name --tls-dir and the file at fault.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Load(const TlsOptions& options);

  struct Change {
    absl::Status status;          // why the new files are not taken
    const TlsMaterial* material;  // the new ones
  };
  using OnChange = std::function<void(const Change& change)>;
  // Called under a lock on the thread that found new files, once for each content. Set before
  // threads use the files.
  void set_on_change(OnChange on_change) { on_change_ = std::move(on_change); }

  // New files that fail a check are not taken: the ones before stay.
  std::shared_ptr<const TlsMaterial> Current();

  const TlsOptions& options() const { return options_; }

 private:
  TlsFiles(TlsOptions options, TlsPem pem, TlsMaterial material);
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TlsOptions options_;
  OnChange on_change_;
  absl::Mutex mutex_;
  absl::Time looked_at_ ABSL_GUARDED_BY(mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  TlsPem seen_ ABSL_GUARDED_BY(mutex_);  // taken or refused
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
