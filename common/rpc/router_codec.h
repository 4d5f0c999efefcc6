// The router stream's messages as structs (common/step/route.h) and as protobuf
// (pregate/v1/router.proto). Encode takes what our own code made; Decode takes what another process
// sent and names the field at fault. Whether a request makes sense (counts, bounds, token ids) is
// the router core's question, which answers that request alone.
#pragma once

#include "absl/status/statusor.h"
#include "common/step/route.h"
#include "pregate/v1/router.pb.h"

namespace pregate {

v1::RouteRequest EncodeToRouter(const ToRouter& message);
v1::RouteResponse EncodeFromRouter(const FromRouter& message);

absl::StatusOr<ToRouter> DecodeToRouter(const v1::RouteRequest& message);
absl::StatusOr<FromRouter> DecodeFromRouter(const v1::RouteResponse& message);

}  // namespace pregate
