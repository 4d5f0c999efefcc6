// Free text with JSON of a schema between two marks, as rules of a grammar: how a model calls tools when
// it likes to, with arguments that are held to their schema.
//
//   (text without `begin`) begin (space) JSON (space) end (text without `begin`) ...
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "common/grammar/grammar.h"

namespace pregate {

struct MarkedJsonConstraint;  // constraint.h

// Adds the rules to an empty grammar. InvalidArgument names what is wrong with the schema.
// REQUIRES: CheckMarks.
absl::Status AddMarkedJson(const MarkedJsonConstraint& marked, Grammar* grammar);

// The first byte of `begin` is not in it again, so that where one may begin is clear from the text's
// last bytes. InvalidArgument names field and value.
absl::Status CheckMarks(const MarkedJsonConstraint& marked);

}  // namespace pregate
