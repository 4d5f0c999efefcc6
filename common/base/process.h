// What every program does first and last.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace pregate {

// Call first in main. Of descriptors 0 to 2, those that are closed are opened in the direction in
// which they are not used, so that no file of ours gets their number and what is written to them
// still fails. Memory that runs out ends the process with a message and exit code 1.
void PrepareProcess();

// Flushes stdout. An error when any of what was printed since the start has been lost: a full disk,
// a closed descriptor.
absl::Status FlushStandardOutput();

// Ids that tell two processes apart. Policy draws from an injected source instead.

// 64 bits from the system's entropy source. Thread-safe.
uint64_t RandomId();

// How much of this machine's memory is to be had.

// Bytes that could be allocated now without swapping: the kernel's estimate, or what a container's
// limit leaves where that is less. Nothing where the kernel does not say.
std::optional<int64_t> AvailableMemoryBytes();
// All of this machine's memory, or a container's limit where that is less. Nothing where the kernel
// does not say.
std::optional<int64_t> TotalMemoryBytes();

// Which pregate this is.

const char* Version();  // "0.1.0"
// What git called the source when the build was configured, "v0.1.0-3-g1a2b3c4d5e6f", or what
// -DPREGATE_COMMIT=... said; empty where neither is known.
const char* Commit();
std::string VersionText();  // "0.1.0 (v0.1.0-3-g1a2b3c4d5e6f)"

}  // namespace pregate
