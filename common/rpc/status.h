// absl::Status <-> grpc::Status: the codes have the same numbers, the message is kept, but for
// bytes that are no UTF-8: many clients cannot read those.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace pregate {

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace pregate
