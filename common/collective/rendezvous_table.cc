#include "common/collective/rendezvous_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/process.h"
#include "common/base/status.h"

namespace pregate {
namespace {

template <typename Waiters>
std::string MissingRanks(const Waiters& waiters) {
  std::vector<size_t> missing;
  for (size_t rank = 0; rank < waiters.size(); ++rank) {
    if (!waiters[rank].has_value()) missing.push_back(rank);
  }
  return absl::StrCat("ranks that did not come: ", absl::StrJoin(missing, ", "));
}

template <typename Waiters>
void Refuse(Waiters& waiters, const absl::Status& why) {
  for (auto& waiter : waiters) {
    if (waiter.has_value()) waiter->done(UnsharedCopy(why));
  }
}

template <typename Waiters>
void Answer(Waiters& waiters) {
  std::vector<std::string> blobs;
  for (auto& waiter : waiters) blobs.push_back(std::move(waiter->blob));
  for (auto& waiter : waiters) waiter->done(blobs);
}

}  // namespace

RendezvousTable::~RendezvousTable() {
  for (auto& [token, group] : groups_) {
    Refuse(group.waiters, absl::CancelledError("the meeting's host stops"));
  }
}

std::string RendezvousTable::Open() {
  const std::string token = absl::StrFormat("%016x%016x", RandomId(), RandomId());
  Group replaced;
  {
    std::lock_guard lock(mutex_);
    if (groups_.size() >= static_cast<size_t>(limits_.meetings_max)) {
      replaced = Take(std::min_element(groups_.begin(), groups_.end(), [](auto& a, auto& b) {
        return a.second.number < b.second.number;
      }));
    }
    groups_[token].number = ++last_group_;
  }
  Refuse(replaced.waiters, absl::UnavailableError("newer meetings took this one's place"));
  return token;
}

absl::Status RendezvousTable::Check(const Groups::iterator& group, int rank, int world_size,
                                    const std::string& blob) const {
  if (group == groups_.end()) {
    return absl::NotFoundError("meeting: over, replaced, or never opened here");
  }
  if (world_size < 1 || world_size > limits_.world_size_max || rank < 0 || rank >= world_size) {
    return absl::InvalidArgumentError(absl::StrCat("meeting: rank ", rank, " of ", world_size,
                                                   " is out of range, at most ",
                                                   limits_.world_size_max, " ranks"));
  }
  const auto& waiters = group->second.waiters;
  if (!waiters.empty() && waiters.size() != static_cast<size_t>(world_size)) {
    return absl::InvalidArgumentError(absl::StrCat("meeting: rank ", rank, " says ", world_size,
                                                   " ranks, others say ", waiters.size()));
  }
  if (!waiters.empty() && waiters[rank].has_value()) {
    return absl::AlreadyExistsError(absl::StrCat("meeting: rank ", rank, " is there already"));
  }
  if (blob.size() > limits_.blob_bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("meeting: blob of ", blob.size(), " bytes, at most ", limits_.blob_bytes_max));
  }
  return absl::OkStatus();
}

RendezvousTable::Group RendezvousTable::Take(Groups::iterator group) {
  Group taken = std::move(group->second);
  groups_.erase(group);
  return taken;
}

RendezvousTable::Ticket RendezvousTable::Enter(const std::string& token, int rank, int world_size,
                                               std::string blob, Done done) {
  Group complete;
  absl::Status refused;
  Ticket ticket = 0;
  {
    std::lock_guard lock(mutex_);
    ticket = ++last_ticket_;
    const auto it = groups_.find(token);
    refused = Check(it, rank, world_size, blob);
    if (refused.ok()) {
      Group& group = it->second;
      group.waiters.resize(world_size);
      group.waiters[rank] = Waiter{ticket, std::move(blob), std::move(done)};
      if (++group.num_present == world_size) complete = Take(it);
    }
  }
  if (!refused.ok()) done(refused);
  Answer(complete.waiters);
  return ticket;
}

void RendezvousTable::Leave(Ticket ticket, absl::StatusCode code) {
  Group over;
  {
    std::lock_guard lock(mutex_);
    const auto holds = [ticket](const auto& waiter) {
      return waiter.has_value() && waiter->ticket == ticket;
    };
    const auto it = std::find_if(groups_.begin(), groups_.end(), [&](const auto& entry) {
      return std::any_of(entry.second.waiters.begin(), entry.second.waiters.end(), holds);
    });
    if (it == groups_.end()) return;
    over = Take(it);
  }
  Refuse(over.waiters, absl::Status(code, absl::StrCat("meeting: ", MissingRanks(over.waiters))));
}

}  // namespace pregate
