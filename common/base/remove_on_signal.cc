#include "common/base/remove_on_signal.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

namespace pregate {
namespace {

constexpr int kPathsMax = 16;
constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
constexpr int kAttemptsMax = 100;  // another thread may still put a file into the folder

// A handler can neither lock nor allocate: fixed memory, each entry valid while its flag is set.
struct Entry {
  volatile sig_atomic_t used = 0;
  char path[PATH_MAX];
};
Entry entries[kPathsMax];
std::mutex entries_mutex;  // of who adds and takes back

// readdir allocates; this is the call beneath it.
struct KernelEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t bytes;
  uint8_t type;
  char name[1];
};

void RemoveFilesIn(int folder) {
  alignas(KernelEntry) char buffer[4096];
  long size = 0;
  while ((size = syscall(SYS_getdents64, folder, buffer, sizeof(buffer))) > 0) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const KernelEntry*>(buffer + at);
      unlinkat(folder, entry->name, 0);  // "." and ".." refuse
      at += entry->bytes;
    }
  }
}

void Remove(const char* path) {
  if (unlink(path) == 0 || errno == ENOENT) return;
  for (int attempt = 0; attempt < kAttemptsMax && rmdir(path) != 0 && errno != ENOENT; ++attempt) {
    const int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    RemoveFilesIn(folder);
    close(folder);
  }
}

// The disposition is the default again: raise ends the process.
void OnSignal(int signal) {
  RemoveHalfWritten();
  raise(signal);
}

void InstallHandlers() {
  for (const int signal : kSignals) {
    struct sigaction now = {};
    if (sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_DFL) continue;
    struct sigaction ours = {};
    ours.sa_handler = OnSignal;
    ours.sa_flags = SA_RESETHAND;
    sigaction(signal, &ours, nullptr);
  }
}

}  // namespace

void RemoveOnSignal(const std::string& path) {
  const std::lock_guard lock(entries_mutex);
  InstallHandlers();
  for (Entry& entry : entries) {
    if (entry.used || path.size() >= sizeof(entry.path)) continue;
    std::memcpy(entry.path, path.c_str(), path.size() + 1);
    entry.used = 1;
    return;
  }
}

void RemoveHalfWritten() {
  for (const Entry& entry : entries) {
    if (entry.used) Remove(entry.path);
  }
}

void KeepOnSignal(const std::string& path) {
  const std::lock_guard lock(entries_mutex);
  for (Entry& entry : entries) {
    if (entry.used && path == entry.path) entry.used = 0;
  }
}

}  // namespace pregate
