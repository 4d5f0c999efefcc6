// Text of others made fit for a terminal.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace pregate::cli {

enum class Layout {
  kCell,  // part of a line: no control character stays
  kFlow,  // text that runs over lines: '\n' and '\t' stay
};

// `text` with U+FFFD for each control character (C0, DEL, C1) and for each byte that is not UTF-8:
// what came over the network must neither steer the terminal nor forge a line. `text` holds whole
// characters.
std::string Printable(absl::string_view text, Layout layout);

}  // namespace pregate::cli
