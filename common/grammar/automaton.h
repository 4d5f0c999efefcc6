// A grammar as a pushdown automaton over bytes: one deterministic automaton a rule, whose edges read
// a byte or call a rule.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/grammar/grammar.h"

namespace pregate {

using StateId = int32_t;
inline constexpr StateId kNoState = -1;

// From every state a rule's end can be reached, so what has begun can always be finished with the
// bytes of the alphabet. No rule begins with itself, so between two bytes there is an end of calls
// and returns. Immutable; thread-safe.
class Automaton {
 public:
  struct Edge {
    uint8_t low, high;
    StateId to;
  };
  struct Call {
    Grammar::Rule rule;
    StateId to;  // where the text goes on behind the rule
  };
  struct State {
    std::vector<Edge> edges;  // ascending, without overlap
    std::vector<Call> calls;  // by rule
    bool accepts = false;     // the rule may end here
  };

  // Only bytes of `alphabet` are read. InvalidArgument where no text belongs to the language, where
  // a rule begins with itself, or where the automaton needs more than kGrammarStatesMax states or
  // kGrammarStepsMax steps to be built.
  static absl::StatusOr<Automaton> Build(const Grammar& grammar, const std::bitset<256>& alphabet);

  StateId start() const { return starts_[0]; }
  StateId start(Grammar::Rule rule) const { return starts_[rule]; }
  int num_states() const { return static_cast<int>(states_.size()); }
  const State& state(StateId state) const { return states_[state]; }
  // kNoState: there is no such edge.
  StateId Next(StateId state, uint8_t byte) const;
  // Bytes of one class are on the same edges everywhere.
  int ClassOf(uint8_t byte) const { return class_of_[byte]; }
  int num_classes() const { return num_classes_; }
  size_t bytes() const;
  // By state: the first one that reads every text of up to `bytes` bytes as it does, so that what a
  // token may do in one it may do in the other: far from its end a counted repetition is all one.
  // Itself, where no repetition is long or finding out would take more than kGrammarStepsMax steps.
  std::vector<StateId> Alike(int bytes) const;

 private:
  Automaton() = default;
  absl::Status Trim();
  // As SignatureOf describes states: those that are alike for one byte more than `alike`.
  std::vector<StateId> Refine(const std::vector<StateId>& alike) const;
  absl::Status CheckLeftRecursion();
  void FindClasses();

  std::vector<State> states_;
  std::vector<StateId> starts_;     // by rule; kNoState: no text belongs to it
  std::vector<bool> may_be_empty_;  // by rule
  bool counts_far_ = false;         // some repetition is counted beyond a few
  std::array<uint8_t, 256> class_of_{};
  int num_classes_ = 0;
};

}  // namespace pregate
