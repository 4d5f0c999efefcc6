#include "router_service/core/session_table.h"

#include <numeric>

#include "common/base/status.h"

namespace pregate {
namespace {

int BlocksFor(int num_tokens) { return (num_tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

}  // namespace

SessionTable::SessionTable(int sessions_max, int kv_blocks)
    : sessions_max_(sessions_max), num_blocks_(kv_blocks), free_blocks_(kv_blocks) {
  // Taken from the back, so that low ids are used first.
  std::iota(free_blocks_.rbegin(), free_blocks_.rend(), 0);
}

const SessionTable::Session* SessionTable::Find(const SessionKey& key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &*it->second;
}

int SessionTable::NumTokens(const SessionKey& key) const {
  const Session* session = Find(key);
  return session == nullptr ? 0 : session->num_tokens;
}

bool SessionTable::IsPinned(const SessionKey& key) const {
  const Session* session = Find(key);
  return session != nullptr && session->pinned;
}

absl::Span<const BlockId> SessionTable::Blocks(const SessionKey& key) const {
  const Session* session = Find(key);
  return session == nullptr ? absl::Span<const BlockId>() : session->blocks;
}

bool SessionTable::Reserve(const SessionKey& key, int base, int end) {
  const int num_blocks = BlocksFor(end);
  const Session* known = Find(key);
  PREGATE_CHECK(known == nullptr ? base == 0 : !known->pinned && base <= known->num_tokens, "base ",
                base);
  PREGATE_CHECK(base < end && num_blocks <= num_blocks_, "base ", base, " end ", end);
  if (num_blocks > num_blocks_ - num_pinned_blocks_) return false;
  if (known == nullptr && static_cast<int>(pinned_.size()) == sessions_max_) return false;

  Session& session = *MoveToPinned(key);
  const int held = static_cast<int>(session.blocks.size());
  while (num_free_blocks() + held < num_blocks || num_sessions() > sessions_max_) {
    Erase(idle_.begin());
    ++num_evictions_;
  }
  num_tokens_ -= session.num_tokens - base;
  session.num_tokens = base;
  ResizeBlocks(session, num_blocks);
  num_pinned_blocks_ += num_blocks;
  return true;
}

SessionTable::Place SessionTable::MoveToPinned(const SessionKey& key) {
  const auto it = index_.find(key);
  if (it != index_.end()) {
    pinned_.splice(pinned_.end(), idle_, it->second);
  } else {
    pinned_.push_back(Session{.key = key});
    index_[key] = std::prev(pinned_.end());
  }
  const Place place = std::prev(pinned_.end());
  place->pinned = true;
  return place;
}

void SessionTable::ResizeBlocks(Session& session, int num_blocks) {
  while (static_cast<int>(session.blocks.size()) > num_blocks) {
    free_blocks_.push_back(session.blocks.back());
    session.blocks.pop_back();
  }
  while (static_cast<int>(session.blocks.size()) < num_blocks) {
    session.blocks.push_back(free_blocks_.back());
    free_blocks_.pop_back();
  }
}

SessionTable::Session& SessionTable::Pinned(const SessionKey& key) {
  const auto it = index_.find(key);
  PREGATE_CHECK(it != index_.end() && it->second->pinned, "session ", key.seq_id);
  return *it->second;
}

void SessionTable::Append(const SessionKey& key, int count) {
  Session& session = Pinned(key);
  session.num_tokens += count;
  num_tokens_ += count;
  PREGATE_CHECK(BlocksFor(session.num_tokens) <= static_cast<int>(session.blocks.size()),
                "session ", key.seq_id);
}

void SessionTable::Unpin(const SessionKey& key, absl::Time now) {
  Session& session = Pinned(key);
  session.pinned = false;
  session.idle_start = now;
  num_pinned_blocks_ -= static_cast<int>(session.blocks.size());
  idle_.splice(idle_.end(), pinned_, index_[key]);
}

void SessionTable::Erase(Place place) {
  num_tokens_ -= place->num_tokens;
  if (place->pinned) num_pinned_blocks_ -= static_cast<int>(place->blocks.size());
  ResizeBlocks(*place, 0);
  index_.erase(place->key);
  (place->pinned ? pinned_ : idle_).erase(place);
}

void SessionTable::Close(const SessionKey& key) {
  const auto it = index_.find(key);
  if (it != index_.end()) Erase(it->second);
}

void SessionTable::CloseLink(LinkId link) {
  for (std::list<Session>* list : {&idle_, &pinned_}) {
    for (Place place = list->begin(); place != list->end();) {
      const Place current = place++;
      if (current->key.link == link) Erase(current);
    }
  }
}

void SessionTable::ExpireIdle(absl::Time cutoff) {
  while (!idle_.empty() && idle_.front().idle_start <= cutoff) {
    Erase(idle_.begin());
    ++num_expirations_;
  }
}

absl::Time SessionTable::OldestIdleStart() const {
  return idle_.empty() ? absl::InfiniteFuture() : idle_.front().idle_start;
}

}  // namespace pregate
