// Protobuf messages to the bytes of a stream and back. The streams between services carry bytes
// through gRPC, not messages: gRPC reports one that does not parse as an end that never comes.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace pregate {

// Replaces bytes that are no UTF-8 in the string fields of `message`, however deep: protobuf writes
// such strings, and whoever reads them refuses the whole message.
void MakeTextValid(google::protobuf::Message* message);

// With its text made valid.
grpc::ByteBuffer ToBytes(google::protobuf::Message* message);

// INVALID_ARGUMENT for what does not parse. `bytes` are empty afterwards.
absl::Status FromBytes(grpc::ByteBuffer* bytes, google::protobuf::Message* message);

// Requests of clients, parsed so that what is wrong with them has a name: gRPC itself answers a
// message that protobuf refuses with INTERNAL and no text.

// INVALID_ARGUMENT names the field and the byte of a text that is not UTF-8, or says that the bytes
// are no such message. Thread-safe.
absl::Status ParseClientMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message* message);

}  // namespace pregate
