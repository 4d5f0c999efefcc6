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

// A plan goes to all workers of a cell: its bytes are made once. Not thread-safe: the engine's.
class PlanEncoder {
 public:
  grpc::ByteBuffer Encode(const ToWorker& message);

 private:
  std::shared_ptr<const StepPlan> plan_;  // the last one
  grpc::ByteBuffer bytes_;                // its; copies share them
};
// The links of one cell share the encoder.
std::unique_ptr<WorkerLink> MakeWorkerLink(int32_t rank, const std::string& address,
                                           const std::shared_ptr<grpc::Channel>& channel,
                                           std::shared_ptr<PlanEncoder> encoder,
                                           const SchedulerServer::Push& push, const Log* log);
std::unique_ptr<RouterLink> MakeRouterLink(const std::string& address,
                                           const std::shared_ptr<grpc::Channel>& channel,
                                           const SchedulerServer::Push& push, const Log* log);

}  // namespace pregate
