#include "scheduler_service/core/stop_scanner.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate::scheduler {

StopScanner::StopScanner(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    PREGATE_CHECK(!stop.empty(), "a stop string is empty");
    Automaton automaton{std::move(stop), {}, 0};
    const std::string& s = automaton.stop;
    automaton.fallback.assign(s.size() + 1, 0);
    for (size_t n = 2, border = 0; n <= s.size(); ++n) {
      while (border > 0 && s[border] != s[n - 1]) border = automaton.fallback[border];
      if (s[border] == s[n - 1]) ++border;
      automaton.fallback[n] = border;
    }
    automata_.push_back(std::move(automaton));
  }
}

void StopScanner::Automaton::Step(char byte) {
  while (state > 0 && stop[state] != byte) state = fallback[state];
  if (stop[state] == byte) ++state;
}

std::string StopScanner::Add(std::string_view text) {
  if (matched_) return "";
  std::string released = std::exchange(held_, "");
  for (char byte : text) {
    released.push_back(byte);
    const Automaton* longest = nullptr;
    for (Automaton& automaton : automata_) {
      automaton.Step(byte);
      const bool complete = automaton.state == automaton.stop.size();
      if (complete && (!longest || automaton.stop.size() > longest->stop.size()))
        longest = &automaton;
    }
    if (longest) {
      matched_ = longest->stop;
      released.resize(released.size() - longest->stop.size());
      return released;
    }
  }
  size_t num_held = 0;
  for (const Automaton& automaton : automata_) num_held = std::max(num_held, automaton.state);
  held_ = released.substr(released.size() - num_held);
  released.resize(released.size() - num_held);
  return released;
}

std::string StopScanner::Flush() { return matched_ ? "" : std::exchange(held_, ""); }

}  // namespace pregate::scheduler
