// File descriptors: as many as the system gives, and how many of them connections may take.
#pragma once

#include "common/telemetry/log.h"

namespace pregate {

// Raises the soft limit to the hard one and logs it: a burst of connections must not meet it.
void RaiseDescriptorLimit(const Log& log);

// Of one port: `max`, or fewer where the limit less kDescriptorsReserved is small. Each takes
// `descriptors_each`.
int ConnectionsThatFit(int max, int descriptors_each);

}  // namespace pregate
