// The scheduler's links over gRPC: one stream to each worker, one to the router.
#pragma once

#include "scheduler_service/edge/scheduler_options.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate {

// Dialling begins at once; events go to `push`. `security` and `log` outlive the links. Errors name
// the option and the address at fault.
absl::StatusOr<SchedulerLinks> MakeGrpcLinks(const SchedulerLinkOptions& options, bool has_router,
                                             const SchedulerServer::Push& push,
                                             const Security& security, const Log* log);

}  // namespace pregate
