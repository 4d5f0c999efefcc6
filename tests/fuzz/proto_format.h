// Formats that are protobuf messages.
#pragma once

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/message.h>
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

// Equal messages give equal bytes, which maps alone do not.
inline std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  PREGATE_CHECK(message.SerializePartialToCodedStream(&coded));
  coded.Trim();
  return bytes;
}

// What was decoded is encoded as it was: once through both changes nothing more.
template <typename Message, typename Encode, typename Decode>
void CheckRoundTrip(const Message& message, Encode encode, Decode decode) {
  const Message once = encode(*decode(message));
  const auto decoded = decode(once);
  PREGATE_CHECK(decoded.ok(), "", decoded.status().ToString());
  PREGATE_CHECK(DeterministicBytes(encode(*decoded)) == DeterministicBytes(once));
}

}  // namespace pregate::fuzz
