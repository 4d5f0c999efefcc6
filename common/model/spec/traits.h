// What a model has that a plain Llama has not, in one list: the digest and `pregate inspect` read it.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "common/model/spec/spec.h"

namespace pregate {

struct Trait {
  const char* name;
  std::variant<bool, int, float> value;
  bool by_layer = false;  // one of as many of this name as there are layers, in their order
};

// Without those of RoPE's scaling. Digests are made of names, values and order.
std::vector<Trait> TraitsOf(const ModelSpec& spec);

}  // namespace pregate
