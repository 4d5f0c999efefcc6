// Collectives between processes over TCP (Gloo).
//
// Gloo's connections carry neither authentication nor encryption: bind them to loopback, or to an
// interface that only the cell's own workers reach.
#pragma once

#include <memory>
#include <string>

#include "common/collective/collective.h"
#include "common/collective/meeting.h"

namespace pregate {

struct GlooOptions {
  std::string host = "127.0.0.1";  // this rank's address, which its peers dial; any free port
  absl::Duration operation_timeout = kCollectiveTimeout;
};

// Ranks exchange their addresses in `meeting`, which outlives the factory. Starts one thread that
// does all of the factory's network I/O. UNAVAILABLE with Gloo's text when `host` cannot be bound.
//
// A dead process is noticed at once (its kernel closes the connections); a machine that vanishes,
// when the operation times out.
absl::StatusOr<std::unique_ptr<CollectiveFactory>> MakeGlooFactory(const GlooOptions& options,
                                                                   Meeting* meeting);

}  // namespace pregate
