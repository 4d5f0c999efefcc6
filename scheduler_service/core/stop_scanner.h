// Stop strings over text that arrives in pieces.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pregate::scheduler {

// Releases text up to the first stop string and never a byte that may belong to one: what could be
// the beginning of a stop string is held back until it is decided. The match that ends first wins;
// of those that end together, the longest. So the outcome does not depend on how the text is cut
// into pieces. One Knuth-Morris-Pratt automaton a stop string: work is O(bytes x stop strings). Not
// thread-safe.
class StopScanner {
 public:
  // REQUIRES: no empty string.
  explicit StopScanner(std::vector<std::string> stops);

  // The text that may go out now. After a match nothing more is released.
  std::string Add(std::string_view text);
  // What is still held, when the text has ended without a match.
  std::string Flush();
  // The stop string that matched.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  struct Automaton {
    std::string stop;
    std::vector<size_t> fallback;  // [n]: longest proper border of the first n bytes
    size_t state = 0;              // longest prefix of `stop` that the text ends with
    void Step(char byte);
  };

  std::vector<Automaton> automata_;
  std::string held_;  // the longest state's bytes
  std::optional<std::string> matched_;
};

}  // namespace pregate::scheduler
