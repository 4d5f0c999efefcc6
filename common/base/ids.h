// The integer types that cross module borders. An index, a count and a byte size never share a
// name:
// `*_index`/`*_id` name one thing, `num_*` counts things, `bytes_*`/`*_bytes` measures memory.
#pragma once

#include <cstdint>

namespace pregate {

using TokenId = int32_t;   // vocabulary id, 0 .. vocab_size-1
using ExpertId = int32_t;  // 0 .. num_experts-1; a token's expert id is its route
using SeqId = uint64_t;    // scheduler-wide, never reused
using Epoch = uint64_t;    // generation of a cell's formation, 0 = never formed
using StepId = uint64_t;   // 1, 2, 3, ... within an epoch
using BlockId = int32_t;   // index of a KV block at the sequence's home rank

inline constexpr ExpertId kNoRoute = -1;   // dense model, or a route that is not known yet
inline constexpr int kKvBlockTokens = 16;  // tokens in one KV block

}  // namespace pregate
