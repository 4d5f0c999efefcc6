// Requests of clients, parsed so that what is wrong with them has a name: gRPC itself answers a
// message that protobuf refuses with INTERNAL and no text.
#pragma once

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace pregate {

// INVALID_ARGUMENT names the field and the byte of a text that is not UTF-8, or says that the bytes
// are no such message. Thread-safe.
absl::Status ParseClientMessage(const grpc::ByteBuffer& buffer, google::protobuf::Message* message);

}  // namespace pregate
