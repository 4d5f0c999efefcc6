// Sessions and the KV blocks that they hold.
//
// A session is a prefix of tokens whose keys and values are stored. It belongs to the link
// that named it: two schedulers never meet in one session. It is a cache: an evicted, expired,
// closed or unknown session has 0 tokens, and its owner replays them. A pinned session (one that is
// being routed) is never evicted.
#pragma once

#include <list>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/peer.h"

namespace pregate {

struct SessionKey {
  LinkId link = 0;
  SeqId seq_id = 0;
  bool operator==(const SessionKey&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const SessionKey& key) {
    return H::combine(std::move(h), key.link, key.seq_id);
  }
};

// Not thread-safe. Times given to its methods never run backwards.
class SessionTable {
 public:
  SessionTable(int sessions_max, int kv_blocks);

  // Stored tokens; 0 for a session that is not here.
  int NumTokens(const SessionKey& key) const;
  bool IsPinned(const SessionKey& key) const;
  // The block table: [ceil(reserved tokens / kKvBlockTokens)]. Valid until the next call that
  // changes the table.
  absl::Span<const BlockId> Blocks(const SessionKey& key) const;

  // Truncates the session to `base` tokens, gives it exactly the blocks for `end` tokens, and pins
  // it. Evicts unpinned sessions, the longest unused first, as far as needed. False, with nothing
  // changed, when pinned sessions leave no room: then some session is pinned, and its Unpin is what
  // to wait for. REQUIRES: not pinned, base <= NumTokens(key), base < end, blocks for `end` tokens
  // exist at all.
  bool Reserve(const SessionKey& key, int base, int end);
  // `count` further tokens are stored. REQUIRES: pinned and reserved.
  void Append(const SessionKey& key, int count);
  // REQUIRES: pinned. The session's idle time starts at `now`.
  void Unpin(const SessionKey& key, absl::Time now);

  // Forgets the session, pinned or not; unknown ones are no error.
  void Close(const SessionKey& key);
  void CloseLink(LinkId link);
  // Forgets unpinned sessions whose idle time began at `cutoff` or before.
  void ExpireIdle(absl::Time cutoff);
  // When the idle time that has lasted longest began; InfiniteFuture when no session is idle.
  absl::Time OldestIdleStart() const;

  int num_sessions() const { return static_cast<int>(index_.size()); }
  int64_t num_tokens() const { return num_tokens_; }
  int num_free_blocks() const { return static_cast<int>(free_blocks_.size()); }
  int64_t num_evictions() const { return num_evictions_; }
  int64_t num_expirations() const { return num_expirations_; }

 private:
  struct Session {
    SessionKey key;
    int num_tokens = 0;
    bool pinned = false;
    absl::Time idle_start;
    std::vector<BlockId> blocks;
  };
  using Place = std::list<Session>::iterator;

  const Session* Find(const SessionKey& key) const;  // null when it is not here
  Session& Pinned(const SessionKey& key);            // REQUIRES: pinned
  Place MoveToPinned(const SessionKey& key);         // creates it if need be
  void ResizeBlocks(Session& session, int num_blocks);
  void Erase(Place place);

  const int sessions_max_;
  const int num_blocks_;
  std::list<Session> idle_;  // front: unused for longest
  std::list<Session> pinned_;
  absl::flat_hash_map<SessionKey, Place> index_;
  std::vector<BlockId> free_blocks_;
  int num_pinned_blocks_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_evictions_ = 0;
  int64_t num_expirations_ = 0;
};

}  // namespace pregate
