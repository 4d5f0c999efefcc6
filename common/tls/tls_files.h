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

// Thread-safe.
class TlsFiles {
 public:
  // Errors name --tls-dir and the file at fault.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Load(const TlsOptions& options);

  struct Change {
    absl::Status status;          // why the new files are not taken
    const TlsMaterial* material;  // what is used from now on
  };
  using OnChange = std::function<void(const Change& change)>;
  // Hands checked files to whoever else must have them; where it fails they are not taken.
  using HandOver = std::function<absl::Status(const TlsMaterial& material)>;
  // Called under a lock on the thread that looks: `hand_over` before new files are taken,
  // `on_change` when they were, and once for each content or fault that is refused. Null: nobody;
  // the ones before are not running any more when this returns.
  void set_on_change(OnChange on_change, HandOver hand_over = nullptr);

  // Looks at the files first, unless that was less than kTlsRefreshMs ago: for one thread that may
  // wait for a disk. New files that fail a check are not taken, the ones before stay; they are
  // looked at again each time, since a certificate may become valid by and by.
  std::shared_ptr<const TlsMaterial> Current();

  // What Current said last. Never waits for a disk: for handshakes.
  std::shared_ptr<const TlsMaterial> Taken() const;

  const TlsOptions& options() const { return options_; }

 private:
  TlsFiles(TlsOptions options, TlsPem pem, TlsMaterial material);
  void Refresh() ABSL_EXCLUSIVE_LOCKS_REQUIRED(look_mutex_);
  absl::StatusOr<TlsMaterial> Check(const TlsPem& pem) const;

  const TlsOptions options_;
  absl::Mutex look_mutex_;  // before mutex_
  OnChange on_change_ ABSL_GUARDED_BY(look_mutex_);
  HandOver hand_over_ ABSL_GUARDED_BY(look_mutex_);
  absl::Time looked_at_ ABSL_GUARDED_BY(look_mutex_);
  absl::Status last_error_ ABSL_GUARDED_BY(look_mutex_);  // of the last look
  TlsPem seen_ ABSL_GUARDED_BY(look_mutex_);              // last, whether taken or refused
  mutable absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate
