#include "common/collective/meeting.h"

#include <future>
#include <memory>

namespace pregate {

absl::StatusOr<std::vector<std::string>> InProcessMeeting::Meet(const std::string& rendezvous,
                                                                int rank, int world_size,
                                                                const std::string& blob,
                                                                absl::Duration timeout,
                                                                std::stop_token stop) {
  const auto answer = std::make_shared<std::promise<absl::StatusOr<std::vector<std::string>>>>();
  auto answered = answer->get_future();
  const RendezvousTable::Ticket ticket =
      table_.Enter(rendezvous, rank, world_size, blob,
                   [answer](auto blobs) { answer->set_value(std::move(blobs)); });
  const std::stop_callback on_stop(stop,
                                   [&] { table_.Leave(ticket, absl::StatusCode::kUnavailable); });
  if (answered.wait_for(absl::ToChronoMilliseconds(timeout)) != std::future_status::ready) {
    table_.Leave(ticket, absl::StatusCode::kDeadlineExceeded);
  }
  auto blobs = answered.get();
  if (!blobs.ok() && stop.stop_requested()) return absl::AbortedError("meeting: stopped here");
  return blobs;
}

}  // namespace pregate
