// A Jinja template as a list of what it prints and of its tags. No Jinja is evaluated.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pregate {

struct JinjaPart {
  enum class Kind {
    kText,   // printed as it is; never two in a row
    kValue,  // a variable that is printed: "message.role"
    kTag,    // the words of a {% tag %}, each a blank apart: "for message in messages"
  };
  Kind kind;
  std::string text;

  bool operator==(const JinjaPart&) const = default;
};

// White space and line ends are dropped as Jinja does with trim_blocks and lstrip_blocks on and
// keep_trailing_newline off. In tags, x['name'] and x["name"] are x.name and string literals stand
// in single quotes. Nothing where a tag is not closed, or where {{ }} holds more than literals and
// variables joined by + or ~.
std::optional<std::vector<JinjaPart>> ParseJinjaParts(std::string_view source);

}  // namespace pregate
