#include "common/collective/exchange_check.h"

#include "common/base/status.h"

namespace pregate {
namespace {

absl::Status CheckAscending(const char* name, int world_size, absl::Span<const int32_t> offsets) {
  if (offsets.size() != static_cast<size_t>(world_size) + 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", offsets.size(), " entries, expected ", world_size + 1));
  }
  for (size_t i = 0; i < offsets.size(); ++i) {
    if (offsets[i] < (i == 0 ? 0 : offsets[i - 1])) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, "[", i, "] = ", offsets[i], " is not ascending from 0"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckMembership(int rank, int world_size) {
  if (world_size >= 1 && rank >= 0 && rank < world_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rank ", rank, " is out of range in a world of ", world_size));
}

absl::Status CheckOffsets(int rank, int world_size, absl::Span<const int32_t> send_offsets,
                          absl::Span<const int32_t> recv_offsets) {
  RETURN_IF_ERROR(CheckAscending("send_offsets", world_size, send_offsets));
  RETURN_IF_ERROR(CheckAscending("recv_offsets", world_size, recv_offsets));
  const int32_t sent = send_offsets[rank + 1] - send_offsets[rank];
  const int32_t received = recv_offsets[rank + 1] - recv_offsets[rank];
  if (sent == received) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rank ", rank, " sends itself ", sent, " rows and receives ", received));
}

int64_t RemoteRows(int rank, absl::Span<const int32_t> offsets) {
  return int64_t{offsets.back()} - offsets.front() - (offsets[rank + 1] - offsets[rank]);
}

}  // namespace pregate
