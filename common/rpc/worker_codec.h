// The worker stream's messages as structs (common/step) and as protobuf (pregate/v1/worker.proto).
// Encode takes what our own code made; Decode takes what another process sent: counts, enums and
// signs are checked against common/base/limits.h, and errors name the field. Whether a decoded
// plan makes sense is the receiver's question (expert_service/core/plan_check.h).
#pragma once

#include "absl/status/statusor.h"
#include "common/step/control.h"
#include "pregate/v1/worker.pb.h"

namespace pregate {

// REQUIRES: no Emit::kLogits and no RowLogits: those stay in one process.
v1::AttachRequest EncodeToWorker(const ToWorker& message);
v1::AttachResponse EncodeFromWorker(const FromWorker& message);
void EncodeActivity(const ActivitySpan& span, v1::ActivitySpan* out);

absl::StatusOr<ToWorker> DecodeToWorker(const v1::AttachRequest& message);
absl::StatusOr<FromWorker> DecodeFromWorker(const v1::AttachResponse& message);

}  // namespace pregate
