#include "scheduler_service/engine/request_table.h"

#include <utility>

#include "common/base/status.h"

namespace pregate::scheduler {

LiveRequest* RequestTable::Add(std::unique_ptr<LiveRequest> request) {
  LiveRequest* r = request.get();
  const SeqId id = r->sequence.id;
  const bool is_new =
      by_link_.emplace(r->link, id).second && requests_.emplace(id, std::move(request)).second;
  PREGATE_CHECK(is_new, "link ", r->link, ", sequence ", id);
  if (r->deadline != absl::InfiniteFuture()) deadlines_.emplace(r->deadline, id);
  return r;
}

std::unique_ptr<LiveRequest> RequestTable::Take(SeqId id) {
  const auto it = requests_.find(id);
  PREGATE_CHECK(it != requests_.end(), "sequence ", id);
  std::unique_ptr<LiveRequest> request = std::move(it->second);
  requests_.erase(it);
  by_link_.erase(request->link);
  deadlines_.erase({request->deadline, id});
  return request;
}

LiveRequest* RequestTable::Find(SeqId id) {
  const auto it = requests_.find(id);
  return it == requests_.end() ? nullptr : it->second.get();
}

LiveRequest* RequestTable::FindByLink(LinkId link) {
  const auto it = by_link_.find(link);
  return it == by_link_.end() ? nullptr : Find(it->second);
}

QueueLength RequestTable::QueueOf(uint64_t client) const {
  QueueLength waiting;
  for (const auto& [id, request] : requests_) {
    if (request->sequence.state == SequenceState::kRunning) continue;
    ++waiting.all;
    if (request->sequence.client == client) ++waiting.of_client;
  }
  return waiting;
}

absl::Time RequestTable::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

std::vector<SeqId> RequestTable::Expired(absl::Time now) const {
  std::vector<SeqId> ids;
  for (const auto& [deadline, id] : deadlines_) {
    if (deadline > now) break;
    ids.push_back(id);
  }
  return ids;
}

std::vector<SeqId> RequestTable::Ids() const {
  std::vector<SeqId> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  return ids;
}

}  // namespace pregate::scheduler
