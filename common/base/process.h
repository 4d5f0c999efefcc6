// What every program does first and last.
#pragma once

#include "absl/status/status.h"

namespace pregate {

// Call first in main. Of descriptors 0 to 2, those that are closed are opened in the direction in
// which they are not used, so that no file of ours gets their number and what is written to them
// still fails. Memory that runs out ends the process with a message and exit code 1.
void PrepareProcess();

// Flushes stdout. An error when any of what was printed since the start has been lost: a full disk,
// a closed descriptor.
absl::Status FlushStandardOutput();

}  // namespace pregate
