#include "scheduler_service/edge/scheduler_links.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/rpc/channel.h"
#include "scheduler_service/edge/router_link.h"
#include "scheduler_service/edge/worker_link.h"

namespace pregate {

absl::StatusOr<SchedulerLinks> MakeGrpcLinks(const SchedulerLinkOptions& options, bool has_router,
                                             const SchedulerServer::Push& push,
                                             const Security& security, const Log* log) {
  const size_t num_workers = options.workers.size();
  if (num_workers < 1 || num_workers > static_cast<size_t>(kWorkersMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--workers names ", num_workers, " workers, not 1 to ", kWorkersMax));
  }
  // All addresses are checked before the first link dials.
  std::vector<Address> workers;
  for (const std::string& text : options.workers) {
    ASSIGN_OR_RETURN(Address address, security.ParseAddress("workers", text));
    workers.push_back(std::move(address));
  }
  ASSIGN_OR_RETURN(const Address router, security.ParseAddress("router", options.router));
  const auto dial = [&security](const Address& address, Role server, int message_bytes_max) {
    return MakeChannel(address, message_bytes_max, security, {server});
  };
  SchedulerLinks links;
  for (size_t rank = 0; rank < num_workers; ++rank) {
    links.workers.push_back(std::make_unique<GrpcWorkerLink>(
        static_cast<int32_t>(rank), workers[rank].ToString(),
        dial(workers[rank], Role::kWorker, kServiceMessageBytesMax), push, log));
  }
  if (has_router) {
    links.router = std::make_unique<GrpcRouterLink>(
        router.ToString(), dial(router, Role::kRouter, kRouteMessageBytesMax), push, log);
  }
  return links;
}

}  // namespace pregate
