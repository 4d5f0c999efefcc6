#include "common/grammar/nfa.h"

#include <algorithm>
#include <array>
#include <map>

#include "absl/container/node_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/grammar_limits.h"
#include "common/base/status.h"

namespace pregate {

absl::Status GrammarBudget::Take(int64_t n) {
  if ((steps -= n) >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("too large: takes more than ", kGrammarStepsMax, " steps to compile"));
}

namespace {

using Expr = Grammar::Expr;
using Kind = Grammar::Kind;

constexpr size_t kStatesMax = kGrammarStatesMax * 16;  // of one rule, before they are deterministic

absl::Status TooManyStates() {
  return absl::InvalidArgumentError(
      absl::StrCat("too large: needs more than ", kGrammarStatesMax, " states"));
}

struct NfaState {
  std::vector<Automaton::Edge> edges;
  std::vector<Automaton::Call> calls;
  std::vector<int> jumps;  // without a byte
};

class NfaBuilder {
 public:
  NfaBuilder(const Grammar& grammar, const std::bitset<256>& alphabet, GrammarBudget* budget)
      : grammar_(grammar), alphabet_(alphabet), budget_(budget) {}

  // Appends the expression behind `from`; the state behind it.
  absl::StatusOr<int> Append(Expr expr, int from) {
    RETURN_IF_ERROR(budget_->Take(1));
    if (states.size() > kStatesMax) return TooManyStates();
    const Grammar::Node& node = grammar_.node(expr);
    switch (node.kind) {
      case Kind::kLiteral:
        return Literal(node.text, from);
      case Kind::kRange:
        return Bytes(node.low, node.high, from);
      case Kind::kSequence:
        for (const Expr part : node.parts) {
          ASSIGN_OR_RETURN(from, Append(part, from));
        }
        return from;
      case Kind::kChoice:
        return Choice(node, from);
      case Kind::kRepeat:
        return Repeat(node, from);
      case Kind::kRule: {
        const int end = NewState();
        states[from].calls.push_back({node.rule, end});
        return end;
      }
      case Kind::kList:
        return List(node, from);
    }
    return from;
  }

  int NewState() {
    states.emplace_back();
    return static_cast<int>(states.size()) - 1;
  }

  std::vector<NfaState> states;

 private:
  int Bytes(int low, int high, int from) {
    const int end = NewState();
    for (int byte = low; byte <= high; ++byte) {
      if (!alphabet_[byte]) continue;
      int last = byte;
      while (last < high && alphabet_[last + 1]) ++last;
      states[from].edges.push_back({static_cast<uint8_t>(byte), static_cast<uint8_t>(last), end});
      byte = last;
    }
    return end;
  }

  absl::StatusOr<int> Literal(std::string_view text, int from) {
    RETURN_IF_ERROR(budget_->Take(static_cast<int64_t>(text.size())));
    for (const char c : text) {
      from = Bytes(static_cast<uint8_t>(c), static_cast<uint8_t>(c), from);
    }
    return from;
  }

  absl::StatusOr<int> Choice(const Grammar::Node& node, int from) {
    const int end = NewState();
    for (const Expr part : node.parts) {
      const int begin = NewState();
      states[from].jumps.push_back(begin);
      ASSIGN_OR_RETURN(const int last, Append(part, begin));
      states[last].jumps.push_back(end);
    }
    return end;
  }

  absl::StatusOr<int> Repeat(const Grammar::Node& node, int from) {
    const Expr part = node.parts[0];
    for (int64_t i = 0; i < node.min; ++i) {
      ASSIGN_OR_RETURN(from, Append(part, from));
    }
    const int end = NewState();
    if (node.max == Grammar::kUnbounded) {
      const int loop = NewState();
      states[from].jumps.push_back(loop);
      states[loop].jumps.push_back(end);
      ASSIGN_OR_RETURN(const int last, Append(part, loop));
      states[last].jumps.push_back(loop);
      return end;
    }
    for (int64_t i = node.min; i < node.max; ++i) {
      states[from].jumps.push_back(end);
      const int begin = NewState();
      states[from].jumps.push_back(begin);
      ASSIGN_OR_RETURN(from, Append(part, begin));
    }
    states[from].jumps.push_back(end);
    return end;
  }

  // Two states before each item: nothing was written yet, or something was.
  absl::StatusOr<int> List(const Grammar::Node& node, int from) {
    int none = NewState(), some = NewState();
    states[from].jumps.push_back(none);
    for (const Grammar::Item& item : node.items) {
      const int begin = NewState();
      const int next_some = NewState();
      states[none].jumps.push_back(begin);
      ASSIGN_OR_RETURN(const int separated, Append(node.parts[0], some));
      states[separated].jumps.push_back(begin);
      ASSIGN_OR_RETURN(const int last, Append(item.expr, begin));
      states[last].jumps.push_back(item.many ? some : next_some);
      if (item.required) {
        none = NewState();  // never reached
      } else {
        states[some].jumps.push_back(next_some);
      }
      some = next_some;
    }
    return some;
  }

  const Grammar& grammar_;
  const std::bitset<256>& alphabet_;
  GrammarBudget* budget_;
};

class SubsetBuilder {
 public:
  SubsetBuilder(const std::vector<NfaState>& nfa, int end, GrammarBudget* budget,
                std::vector<Automaton::State>* states)
      : nfa_(nfa), end_(end), budget_(budget), states_(states), marked_(nfa.size(), 0) {}

  absl::Status Run() {
    const StateId first = static_cast<StateId>(states_->size());
    ASSIGN_OR_RETURN(StateId next, Intern({0}));
    for (; next < static_cast<StateId>(states_->size()); ++next) {
      RETURN_IF_ERROR(Expand(next, *subsets_[next - first]));
    }
    return absl::OkStatus();
  }

 private:
  // The number of what `members` can reach without a byte.
  absl::StatusOr<StateId> Intern(std::vector<int> members) {
    ++round_;
    std::vector<int> closed;
    for (const int member : members) Mark(member, &closed);
    for (size_t i = 0; i < closed.size(); ++i) {
      for (const int to : nfa_[closed[i]].jumps) Mark(to, &closed);
    }
    RETURN_IF_ERROR(budget_->Take(static_cast<int64_t>(closed.size())));
    std::erase_if(closed, [&](int member) {
      return nfa_[member].edges.empty() && nfa_[member].calls.empty() && member != end_;
    });
    std::sort(closed.begin(), closed.end());
    const auto [it, added] = ids_.try_emplace(std::move(closed), states_->size());
    if (!added) return it->second;
    if (states_->size() >= kGrammarStatesMax) return TooManyStates();
    states_->emplace_back();
    states_->back().accepts = std::binary_search(it->first.begin(), it->first.end(), end_);
    subsets_.push_back(&it->first);
    return it->second;
  }

  void Mark(int member, std::vector<int>* out) {
    if (marked_[member] == round_) return;
    marked_[member] = round_;
    out->push_back(member);
  }

  absl::Status Expand(StateId from, const std::vector<int>& members) {
    std::vector<Automaton::Edge> all;
    std::map<Grammar::Rule, std::vector<int>> calls;
    for (const int member : members) {
      all.insert(all.end(), nfa_[member].edges.begin(), nfa_[member].edges.end());
      for (const Automaton::Call& call : nfa_[member].calls) calls[call.rule].push_back(call.to);
    }
    RETURN_IF_ERROR(ExpandEdges(from, all));
    for (auto& [rule, targets] : calls) {
      ASSIGN_OR_RETURN(const StateId to, Intern(std::move(targets)));
      (*states_)[from].calls.push_back({rule, to});
    }
    return absl::OkStatus();
  }

  // Cuts the edges where one begins or ends; each piece has one target.
  absl::Status ExpandEdges(StateId from, const std::vector<Automaton::Edge>& all) {
    std::bitset<257> cuts;
    for (const Automaton::Edge& edge : all) cuts[edge.low] = cuts[edge.high + 1] = true;
    std::array<std::vector<int>, 256> targets;  // by a piece's first byte
    for (const Automaton::Edge& edge : all) {
      for (int byte = edge.low; byte <= edge.high; ++byte) {
        if (cuts[byte]) targets[byte].push_back(edge.to);
      }
      RETURN_IF_ERROR(budget_->Take(1 + (edge.high - edge.low) / 16));
    }
    for (int low = 0; low < 256; ++low) {
      if (targets[low].empty()) continue;
      int high = low;
      while (!cuts[high + 1]) ++high;
      ASSIGN_OR_RETURN(const StateId to, Intern(std::move(targets[low])));
      AddEdge(from, low, high, to);
    }
    return absl::OkStatus();
  }

  void AddEdge(StateId from, int low, int high, StateId to) {
    std::vector<Automaton::Edge>& edges = (*states_)[from].edges;
    if (!edges.empty() && edges.back().to == to && edges.back().high + 1 == low) {
      edges.back().high = static_cast<uint8_t>(high);
    } else {
      edges.push_back({static_cast<uint8_t>(low), static_cast<uint8_t>(high), to});
    }
  }

  const std::vector<NfaState>& nfa_;
  const int end_;
  GrammarBudget* budget_;
  std::vector<Automaton::State>* states_;
  absl::node_hash_map<std::vector<int>, StateId> ids_;  // whose keys stay where they are
  std::vector<const std::vector<int>*> subsets_;
  std::vector<int> marked_;  // by NFA state: the round that has seen it
  int round_ = 0;
};

}  // namespace

absl::Status AppendRule(const Grammar& grammar, Grammar::Rule rule,
                        const std::bitset<256>& alphabet, GrammarBudget* budget,
                        std::vector<Automaton::State>* states) {
  NfaBuilder nfa(grammar, alphabet, budget);
  const int begin = nfa.NewState();
  ASSIGN_OR_RETURN(const int end, nfa.Append(grammar.rules()[rule], begin));
  return SubsetBuilder(nfa.states, end, budget, states).Run();
}

}  // namespace pregate
