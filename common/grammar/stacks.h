// What a pushdown automaton may be doing at one place of a text: the stacks of states that it can be
// in, shared where they have the same bottom.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/grammar/automaton.h"

namespace pregate {

// Every stack that a text may have led to; those whose top reads a byte.
struct Configuration {
  std::vector<int32_t> tops;  // stacks of a StackStore, ascending
  bool can_end = false;       // nothing of the stack has to follow: its bottom rule may end here

  bool dead() const { return tops.empty() && !can_end; }
  bool operator==(const Configuration&) const = default;
};

// A stack is the number of its top: a state and the stack below it, whose state is where the text
// goes on when the top's rule ends. Equal stacks have one number. Not thread-safe.
class StackStore {
 public:
  using Stack = int32_t;
  static constexpr Stack kBottom = -1;

  // `stacks_max`: of one configuration. What would be more is no longer followed, which forbids texts
  // and allows none.
  StackStore(const Automaton& automaton, size_t stacks_max)
      : automaton_(&automaton), stacks_max_(stacks_max) {}

  Stack Push(StateId state, Stack below);
  StateId state(Stack stack) const { return nodes_[stack].first; }
  Stack below(Stack stack) const { return nodes_[stack].second; }
  size_t size() const { return nodes_.size(); }
  void Clear();

  // What `stack` alone may do.
  Configuration Start(Stack stack) { return Close({stack}); }
  // What follows when `byte` is read; dead where nothing allows it.
  Configuration Step(const Configuration& from, uint8_t byte);
  // Leaves some `stacks_max` stacks, and one at least of each state on top: whatever may come next may
  // still come, though not all that it could have been part of is followed.
  void Cut(size_t stacks_max, Configuration* configuration) const;

 private:
  // Calls and returns, until each stack reads a byte.
  Configuration Close(std::vector<Stack> stacks);
  void AddCalls(const Automaton::State& state, Stack stack, std::vector<Stack>* out);

  const Automaton* automaton_;
  size_t stacks_max_;
  std::vector<std::pair<StateId, Stack>> nodes_;
  absl::flat_hash_map<std::pair<StateId, Stack>, Stack> ids_;
  std::vector<uint32_t> seen_;  // by stack: the round of Close that has met it
  uint32_t round_ = 0;
};

}  // namespace pregate
