#include "common/grammar/stacks.h"

#include <algorithm>

namespace pregate {

StackStore::Stack StackStore::Push(StateId state, Stack below) {
  const auto [it, added] = ids_.try_emplace({state, below}, static_cast<Stack>(nodes_.size()));
  if (added) {
    nodes_.emplace_back(state, below);
    seen_.push_back(0);
  }
  return it->second;
}

void StackStore::Clear() {
  nodes_.clear();
  ids_.clear();
  seen_.clear();
}

Configuration StackStore::Step(const Configuration& from, uint8_t byte) {
  std::vector<Stack> next;
  for (const Stack top : from.tops) {
    const auto [state, below] = nodes_[top];
    const StateId to = automaton_->Next(state, byte);
    if (to != kNoState) next.push_back(Push(to, below));
  }
  return Close(std::move(next));
}

void StackStore::Cut(size_t stacks_max, Configuration* configuration) const {
  std::vector<Stack>& tops = configuration->tops;
  if (tops.size() <= stacks_max) return;
  absl::flat_hash_map<StateId, size_t> of_state;
  for (const Stack top : tops) ++of_state[state(top)];
  const size_t each = std::max<size_t>(1, stacks_max / of_state.size());
  of_state.clear();
  std::erase_if(tops, [&](Stack top) { return ++of_state[state(top)] > each; });
}

Configuration StackStore::Close(std::vector<Stack> stacks) {
  Configuration closed;
  ++round_;
  for (size_t i = 0; i < stacks.size(); ++i) {
    const Stack stack = stacks[i];
    if (seen_[stack] == round_) continue;
    seen_[stack] = round_;
    const auto [state_id, below] = nodes_[stack];
    const Automaton::State& state = automaton_->state(state_id);
    if (!state.edges.empty() && closed.tops.size() < stacks_max_) {
      closed.tops.push_back(stack);
    }
    if (state.accepts && below == kBottom) closed.can_end = true;
    if (state.accepts && below != kBottom) stacks.push_back(below);
    AddCalls(state, stack, &stacks);
  }
  std::sort(closed.tops.begin(), closed.tops.end());
  return closed;
}

void StackStore::AddCalls(const Automaton::State& state, Stack stack, std::vector<Stack>* out) {
  for (const Automaton::Call& call : state.calls) {
    const Automaton::State& next = automaton_->state(call.to);
    // A rule that ends with the call is left at once, so that recursion at its end needs no stack.
    const bool last = next.accepts && next.edges.empty() && next.calls.empty();
    const Stack below = nodes_[stack].second;
    out->push_back(Push(automaton_->start(call.rule), last ? below : Push(call.to, below)));
  }
}

}  // namespace pregate
