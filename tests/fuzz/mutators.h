// Changes that keep an input's structure: what a reader takes apart is changed, what frames it
// stays right. Each returns "" for an input without that structure.
#pragma once

#include <google/protobuf/message.h>

#include <random>
#include <string>
#include <string_view>

#include "nlohmann/json.hpp"

namespace pregate::fuzz {

// Changes, moves, repeats or drops a value, renames a key.
std::string MutateJson(std::string_view text, std::mt19937_64& random);
void ChangeJson(nlohmann::json* root, std::mt19937_64& random);  // one that is parsed

// Changes the header as JSON, or the data's length. In half of the cases the offsets are made to
// fit types and shapes again.
std::string MutateSafetensors(std::string_view bytes, std::mt19937_64& random);

// Changes, repeats or drops a key, its type or value, or a tensor's name, axes, type or offset.
std::string MutateGguf(std::string_view bytes, std::mt19937_64& random);

// Gives a field of the message, or of one within it, another value. `message` receives what is
// parsed.
std::string MutateProto(std::string_view bytes, std::mt19937_64& random,
                        google::protobuf::Message* message);

}  // namespace pregate::fuzz
