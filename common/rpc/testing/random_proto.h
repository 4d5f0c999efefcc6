// Fills protobuf messages with random values through reflection, so that a codec's test covers
// every field, also those that are added later.
#pragma once

#include <google/protobuf/message.h>

#include <random>
#include <string>

namespace pregate::testing {

struct RandomProtoOptions {
  int repeated_max = 4;
  bool wild = false;  // any value of the type; else 1..15 for numbers and declared enum values
};

// Sets every field, one field of each oneof.
void FillRandom(google::protobuf::Message* message, std::mt19937_64& random,
                const RandomProtoOptions& options);

// Flips, inserts, deletes or copies some bytes.
std::string Mutate(std::string bytes, std::mt19937_64& random);

}  // namespace pregate::testing
