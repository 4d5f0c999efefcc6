#include "common/collective/in_process_meeting.h"

#include <future>
#include <memory>

namespace pregate {

absl::StatusOr<std::vector<std::string>> InProcessMeeting::Meet(const std::string& rendezvous,
                                                                int rank, int world_size,
                                                                const std::string& blob,
                                                                absl::Duration timeout) {
  const auto answer = std::make_shared<std::promise<absl::StatusOr<std::vector<std::string>>>>();
  auto answered = answer->get_future();
  const MeetingRoom::Ticket ticket =
      room_.Enter(rendezvous, rank, world_size, blob,
                  [answer](auto blobs) { answer->set_value(std::move(blobs)); });
  if (answered.wait_for(absl::ToChronoMilliseconds(timeout)) != std::future_status::ready) {
    room_.Leave(ticket, absl::StatusCode::kDeadlineExceeded);
  }
  return answered.get();
}

}  // namespace pregate
