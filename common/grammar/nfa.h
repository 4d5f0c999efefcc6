// One rule of a grammar as a nondeterministic automaton (Thompson's construction), and its
// deterministic form (subset construction). A step of automaton.cc.
#pragma once

#include <bitset>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/grammar/automaton.h"
#include "common/grammar/grammar.h"

namespace pregate {

// What building may still cost.
struct GrammarBudget {
  int64_t steps;
  // InvalidArgument where nothing is left.
  absl::Status Take(int64_t n);
};

// Appends the rule's states to `states`, the first one being its start. Targets are numbers of
// `states`.
absl::Status AppendRule(const Grammar& grammar, Grammar::Rule rule,
                        const std::bitset<256>& alphabet, GrammarBudget* budget,
                        std::vector<Automaton::State>* states);

}  // namespace pregate
