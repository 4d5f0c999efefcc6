// Formats that are protobuf messages.
#pragma once

#include <google/protobuf/stubs/logging.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz {

// `use` gets each message that parses.
template <typename Message>
Format ProtoFormat(std::string name, std::function<std::vector<Message>()> seeds,
                   std::function<bool(const Message&)> use) {
  return {.name = std::move(name),
          .seeds =
              [seeds = std::move(seeds)] {
                std::vector<std::string> out;
                for (const Message& message : seeds()) out.push_back(message.SerializeAsString());
                return out;
              },
          .run =
              [use = std::move(use)](std::string_view input) {
                const google::protobuf::LogSilencer quiet;  // of text that is not UTF-8
                Message message;
                const bool parsed =
                    message.ParseFromArray(input.data(), static_cast<int>(input.size()));
                return parsed && use(message);
              },
          .mutate =
              [](std::string_view input, std::mt19937_64& random) {
                Message message;
                return MutateProto(input, random, &message);
              }};
}

// What was decoded is encoded as it was: once through both changes nothing more.
template <typename Message, typename Encode, typename Decode>
void CheckRoundTrip(const Message& message, Encode encode, Decode decode) {
  const Message once = encode(*decode(message));
  const auto decoded = decode(once);
  PREGATE_CHECK(decoded.ok(), "", decoded.status().ToString());
  PREGATE_CHECK(encode(*decoded).SerializeAsString() == once.SerializeAsString());
}

}  // namespace pregate::fuzz
