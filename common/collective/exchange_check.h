// What every Collective checks of its arguments before it touches memory or a peer.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace pregate {

// INVALID_ARGUMENT names the rank or offset at fault.
absl::Status CheckMembership(int rank, int world_size);
absl::Status CheckOffsets(int rank, int world_size, absl::Span<const int32_t> send_offsets,
                          absl::Span<const int32_t> recv_offsets);

// Rows of `offsets` that go to or come from other ranks.
int64_t RemoteRows(int rank, absl::Span<const int32_t> offsets);

}  // namespace pregate
