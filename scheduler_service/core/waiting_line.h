// Who waits for a place in the batch, and in which order they come.
//
// Higher priorities first, within one by turn (fair_turns.h), then age. Nobody starves: when
// kPassedMax of higher priorities have entered in a row while a lower one waited, its first comes next.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "scheduler_service/core/sequence.h"

namespace pregate::scheduler {

// Borrows sequences from Insert to Erase or Enter; their priorities and turns do not change
// meanwhile. Not thread-safe.
class WaitingLine {
 public:
  static constexpr int32_t kPassedMax = 8;

  void Insert(Sequence* sequence);
  // Nothing happens where it does not wait.
  void Erase(Sequence* sequence);
  // It has left the line for the batch. Null: it does not wait.
  Sequence* Enter(SeqId id);

  // The first ones in the order in which they would enter, `count` at most.
  std::vector<Sequence*> First(int32_t count) const;
  size_t size() const { return by_id_.size(); }

 private:
  struct ByTurn {
    bool operator()(const Sequence* a, const Sequence* b) const {
      return std::pair(a->turn, a->id) < std::pair(b->turn, b->id);
    }
  };
  struct Level {
    absl::btree_set<Sequence*, ByTurn> sequences;  // not empty
    int32_t passed = 0;                            // by higher ones since one of it entered
  };

  absl::flat_hash_map<SeqId, Sequence*> by_id_;
  absl::btree_map<int32_t, Level, std::greater<>> levels_;  // by priority, the highest first
};

}  // namespace pregate::scheduler
