// The engine's board as GetClusterStatus tells it.
#pragma once

#include "pregate/v1/inference.pb.h"
#include "scheduler_service/edge/served_model.h"
#include "scheduler_service/engine/cluster_board.h"

namespace pregate {

// Of workers beyond kUnitsShownMax units in all `units` stays empty. The last `timeline_steps` steps
// have `ranks`, as far as there are kActivitiesShownMax activities in all.
v1::GetClusterStatusResponse EncodeClusterStatus(const ServedModel& model,
                                                 const ClusterStanding& standing,
                                                 int32_t timeline_steps);

}  // namespace pregate
