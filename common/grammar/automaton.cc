#include "common/grammar/automaton.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"
#include "common/grammar/nfa.h"

namespace pregate {
namespace {

constexpr int64_t kFewRepeats = 32;

// Finds the states from which their rule's end can be reached, and the rules that have a text.
class Completion {
 public:
  Completion(absl::Span<const Automaton::State> states, absl::Span<const StateId> starts)
      : states_(states), starts_(starts), completes_(states.size(), false) {
    NoteSources();
    for (StateId s = 0; s < static_cast<StateId>(states_.size()); ++s) {
      if (states_[s].accepts) Add(s);
    }
    for (size_t i = 0; i < found_.size(); ++i) Spread(found_[i]);
  }

  bool completes(StateId state) const { return completes_[state]; }
  bool has_text(Grammar::Rule rule) const { return completes_[starts_[rule]]; }

 private:
  void NoteSources() {
    sources_.resize(states_.size());
    callers_.resize(starts_.size());
    rule_of_start_.assign(states_.size(), -1);
    for (size_t r = 0; r < starts_.size(); ++r) {
      rule_of_start_[starts_[r]] = static_cast<Grammar::Rule>(r);
    }
    for (StateId s = 0; s < static_cast<StateId>(states_.size()); ++s) {
      for (const Automaton::Edge& edge : states_[s].edges) sources_[edge.to].push_back(s);
      for (const Automaton::Call& call : states_[s].calls) {
        sources_[call.to].push_back(s);
        callers_[call.rule].push_back(s);
      }
    }
  }

  void Add(StateId s) {
    if (completes_[s]) return;
    completes_[s] = true;
    found_.push_back(s);
  }

  bool Completes(StateId s) const {
    for (const Automaton::Edge& edge : states_[s].edges) {
      if (completes_[edge.to]) return true;
    }
    for (const Automaton::Call& call : states_[s].calls) {
      if (completes_[call.to] && has_text(call.rule)) return true;
    }
    return false;
  }

  void Spread(StateId s) {
    for (const StateId source : sources_[s]) {
      if (!completes_[source] && Completes(source)) Add(source);
    }
    if (rule_of_start_[s] < 0) return;
    for (const StateId caller : callers_[rule_of_start_[s]]) {
      if (!completes_[caller] && Completes(caller)) Add(caller);
    }
  }

  absl::Span<const Automaton::State> states_;
  absl::Span<const StateId> starts_;
  std::vector<bool> completes_;
  std::vector<StateId> found_;
  std::vector<std::vector<StateId>> sources_;  // by state: where edges and calls to it begin
  std::vector<std::vector<StateId>> callers_;  // by rule
  std::vector<Grammar::Rule> rule_of_start_;   // by state; -1: none's
};

}  // namespace

absl::StatusOr<Automaton> Automaton::Build(const Grammar& grammar,
                                           const std::bitset<256>& alphabet) {
  Automaton automaton;
  automaton.counts_far_ = grammar.repeats_max() > kFewRepeats;
  GrammarBudget budget{kGrammarStepsMax};
  const auto num_rules = static_cast<Grammar::Rule>(grammar.rules().size());
  for (Grammar::Rule rule = 0; rule < num_rules; ++rule) {
    automaton.starts_.push_back(static_cast<StateId>(automaton.states_.size()));
    RETURN_IF_ERROR(AppendRule(grammar, rule, alphabet, &budget, &automaton.states_));
  }
  RETURN_IF_ERROR(automaton.Trim());
  RETURN_IF_ERROR(automaton.CheckLeftRecursion());
  automaton.FindClasses();
  return automaton;
}

absl::Status Automaton::Trim() {
  const Completion completion(states_, starts_);
  if (!completion.has_text(0)) {
    return absl::InvalidArgumentError("allows no text that the vocabulary can spell");
  }
  for (State& state : states_) {
    std::erase_if(state.edges, [&](const Edge& edge) { return !completion.completes(edge.to); });
    std::erase_if(state.calls, [&](const Call& call) {
      return !completion.completes(call.to) || !completion.has_text(call.rule);
    });
  }
  return absl::OkStatus();
}

namespace {

// Depth first over "rule b may be called before rule a has read a byte".
class LeftCalls {
 public:
  LeftCalls(absl::Span<const Automaton::State> states, absl::Span<const StateId> starts)
      : states_(states), starts_(starts), nullable_(starts.size(), false) {
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t r = 0; r < starts_.size(); ++r) {
        if (nullable_[r]) continue;
        const std::vector<StateId> reach = Reach(r);
        nullable_[r] =
            std::any_of(reach.begin(), reach.end(), [&](StateId s) { return states_[s].accepts; });
        changed |= nullable_[r];
      }
    }
  }

  const std::vector<bool>& may_be_empty() const { return nullable_; }

  bool HasCycle() const {
    std::vector<int> missing(starts_.size(), 0);  // of a rule: callers not removed yet
    std::vector<std::vector<Grammar::Rule>> called(starts_.size());
    for (size_t r = 0; r < starts_.size(); ++r) {
      for (const StateId s : Reach(r)) {
        for (const Automaton::Call& call : states_[s].calls) called[r].push_back(call.rule);
      }
      for (const Grammar::Rule to : called[r]) ++missing[to];
    }
    std::vector<Grammar::Rule> free;
    for (size_t r = 0; r < starts_.size(); ++r) {
      if (missing[r] == 0) free.push_back(static_cast<Grammar::Rule>(r));
    }
    for (size_t i = 0; i < free.size(); ++i) {
      for (const Grammar::Rule to : called[free[i]]) {
        if (--missing[to] == 0) free.push_back(to);
      }
    }
    return free.size() < starts_.size();
  }

 private:
  // The states of a rule that are reached without a byte.
  std::vector<StateId> Reach(size_t rule) const {
    std::vector<StateId> reach = {starts_[rule]};
    for (size_t i = 0; i < reach.size(); ++i) {
      for (const Automaton::Call& call : states_[reach[i]].calls) {
        if (!nullable_[call.rule]) continue;
        if (std::find(reach.begin(), reach.end(), call.to) == reach.end()) {
          reach.push_back(call.to);
        }
      }
    }
    return reach;
  }

  absl::Span<const Automaton::State> states_;
  absl::Span<const StateId> starts_;
  std::vector<bool> nullable_;
};

}  // namespace

absl::Status Automaton::CheckLeftRecursion() {
  const LeftCalls left(states_, starts_);
  may_be_empty_ = left.may_be_empty();
  if (!left.HasCycle()) return absl::OkStatus();
  return absl::InvalidArgumentError("recursion without a character in between");
}

void Automaton::FindClasses() {
  std::bitset<257> cuts;
  for (const State& state : states_) {
    for (const Edge& edge : state.edges) cuts[edge.low] = cuts[edge.high + 1] = true;
  }
  int current = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (byte > 0 && cuts[byte]) ++current;
    class_of_[byte] = static_cast<uint8_t>(current);
  }
  num_classes_ = current + 1;
}

size_t Automaton::bytes() const {
  size_t bytes = states_.size() * sizeof(State);
  for (const State& state : states_) {
    bytes += state.edges.capacity() * sizeof(Edge) + state.calls.capacity() * sizeof(Call);
  }
  return bytes;
}

std::vector<StateId> Automaton::Alike(int bytes) const {
  std::vector<StateId> alike(states_.size());
  std::iota(alike.begin(), alike.end(), 0);
  if (!counts_far_) return alike;
  std::fill(alike.begin(), alike.end(), 0);  // for no byte at all
  const int64_t rounds_max = kGrammarStepsMax / num_states();
  for (int round = 0; round < bytes; ++round) {
    std::vector<StateId> finer = Refine(alike);
    if (finer == alike) break;
    alike = std::move(finer);
    if (round < rounds_max) continue;
    std::iota(alike.begin(), alike.end(), 0);
    break;
  }
  return alike;
}

std::vector<StateId> Automaton::Refine(const std::vector<StateId>& alike) const {
  std::vector<StateId> finer(states_.size());
  absl::flat_hash_map<std::vector<int32_t>, StateId> first;  // by what a state does
  for (StateId s = 0; s < num_states(); ++s) {
    std::vector<int32_t> signature = {states_[s].accepts};
    for (const Edge& edge : states_[s].edges) {
      signature.insert(signature.end(), {edge.low * 256 + edge.high, alike[edge.to]});
    }
    for (const Call& call : states_[s].calls) {
      // Behind a rule that reads nothing there is still the whole byte to read.
      const int32_t to = may_be_empty_[call.rule] ? ~call.to : alike[call.to];
      signature.insert(signature.end(), {-1 - call.rule, to});
    }
    finer[s] = first.try_emplace(std::move(signature), s).first->second;
  }
  return finer;
}

StateId Automaton::Next(StateId state, uint8_t byte) const {
  for (const Edge& edge : states_[state].edges) {
    if (byte < edge.low) return kNoState;
    if (byte <= edge.high) return edge.to;
  }
  return kNoState;
}

}  // namespace pregate
