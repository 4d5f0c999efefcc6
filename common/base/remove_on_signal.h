// What must not outlive a process that a signal ends: half-written files and folders.
#pragma once

#include <string>

namespace pregate {

// From now on SIGINT, SIGTERM and SIGHUP remove `path`, a file or a folder of files, before they
// end the process as they would have. Signals that are ignored, blocked or handled stay so. A few
// paths at a time; a longer path, or one too many, is not removed. Thread-safe.
void RemoveOnSignal(const std::string& path);
// Takes it back.
void KeepOnSignal(const std::string& path);
// Removes them now, for a process that ends otherwise. Async-signal-safe.
void RemoveHalfWritten();

}  // namespace pregate
