// GetClusterStatus's answer as core's struct.
#pragma once

#include "gateway_service/core/cluster_status.h"
#include "pregate/v1/inference.pb.h"

namespace pregate::gateway {

CellStatus DecodeClusterStatus(const v1::GetClusterStatusResponse& in);

}  // namespace pregate::gateway
