// The one message that comes a token, written straight into bytes: no protobuf message is built,
// looked through for text and serialized.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include "scheduler_service/core/request.h"

namespace pregate {

// The bytes of a GenerateResponse with these tokens, equal to those of EncodeTokens.
// REQUIRES: out.logprobs is empty.
grpc::ByteBuffer TokenBytes(const TokensOut& out, bool has_routes);

}  // namespace pregate
