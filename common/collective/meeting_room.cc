#include "common/collective/meeting_room.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/random_id.h"
#include "common/base/status.h"

namespace pregate {
namespace {

template <typename Guests>
std::string MissingRanks(const Guests& guests) {
  std::vector<size_t> missing;
  for (size_t rank = 0; rank < guests.size(); ++rank) {
    if (!guests[rank].has_value()) missing.push_back(rank);
  }
  return absl::StrCat("ranks that did not come: ", absl::StrJoin(missing, ", "));
}

template <typename Guests>
void Refuse(Guests& guests, const absl::Status& why) {
  for (auto& guest : guests) {
    if (guest.has_value()) guest->done(UnsharedCopy(why));
  }
}

template <typename Guests>
void Answer(Guests& guests) {
  std::vector<std::string> blobs;
  for (auto& guest : guests) blobs.push_back(std::move(guest->blob));
  for (auto& guest : guests) guest->done(blobs);
}

}  // namespace

MeetingRoom::~MeetingRoom() {
  for (auto& [token, table] : tables_) {
    Refuse(table.guests, absl::CancelledError("the meeting's host stops"));
  }
}

std::string MeetingRoom::Open() {
  const std::string token = absl::StrFormat("%016x%016x", RandomId(), RandomId());
  Table replaced;
  {
    std::lock_guard lock(mutex_);
    if (tables_.size() >= static_cast<size_t>(limits_.meetings_max)) {
      replaced = Take(std::min_element(tables_.begin(), tables_.end(), [](auto& a, auto& b) {
        return a.second.number < b.second.number;
      }));
    }
    tables_[token].number = ++last_table_;
  }
  Refuse(replaced.guests, absl::UnavailableError("newer meetings took this one's place"));
  return token;
}

absl::Status MeetingRoom::Check(const Tables::iterator& table, int rank, int world_size,
                                const std::string& blob) const {
  if (table == tables_.end()) {
    return absl::NotFoundError("meeting: over, replaced, or never opened here");
  }
  if (world_size < 1 || world_size > limits_.world_size_max || rank < 0 || rank >= world_size) {
    return absl::InvalidArgumentError(absl::StrCat("meeting: rank ", rank, " of ", world_size,
                                                   " is out of range, at most ",
                                                   limits_.world_size_max, " ranks"));
  }
  const auto& guests = table->second.guests;
  if (!guests.empty() && guests.size() != static_cast<size_t>(world_size)) {
    return absl::InvalidArgumentError(absl::StrCat("meeting: rank ", rank, " says ", world_size,
                                                   " ranks, others say ", guests.size()));
  }
  if (!guests.empty() && guests[rank].has_value()) {
    return absl::AlreadyExistsError(absl::StrCat("meeting: rank ", rank, " is there already"));
  }
  if (blob.size() > limits_.blob_bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("meeting: blob of ", blob.size(), " bytes, at most ", limits_.blob_bytes_max));
  }
  return absl::OkStatus();
}

MeetingRoom::Table MeetingRoom::Take(Tables::iterator table) {
  Table taken = std::move(table->second);
  tables_.erase(table);
  return taken;
}

MeetingRoom::Ticket MeetingRoom::Enter(const std::string& token, int rank, int world_size,
                                       std::string blob, Done done) {
  Table complete;
  absl::Status refused;
  Ticket ticket = 0;
  {
    std::lock_guard lock(mutex_);
    ticket = ++last_ticket_;
    const auto it = tables_.find(token);
    refused = Check(it, rank, world_size, blob);
    if (refused.ok()) {
      Table& table = it->second;
      table.guests.resize(world_size);
      table.guests[rank] = Guest{ticket, std::move(blob), std::move(done)};
      if (++table.num_present == world_size) complete = Take(it);
    }
  }
  if (!refused.ok()) done(refused);
  Answer(complete.guests);
  return ticket;
}

void MeetingRoom::Leave(Ticket ticket, absl::StatusCode code) {
  Table over;
  {
    std::lock_guard lock(mutex_);
    const auto holds = [ticket](const auto& guest) {
      return guest.has_value() && guest->ticket == ticket;
    };
    const auto it = std::find_if(tables_.begin(), tables_.end(), [&](const auto& entry) {
      return std::any_of(entry.second.guests.begin(), entry.second.guests.end(), holds);
    });
    if (it == tables_.end()) return;
    over = Take(it);
  }
  Refuse(over.guests, absl::Status(code, absl::StrCat("meeting: ", MissingRanks(over.guests))));
}

}  // namespace pregate
