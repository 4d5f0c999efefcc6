#include "scheduler_service/edge/scheduler_links.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/rpc/channel.h"
#include "common/rpc/message_bytes.h"
#include "common/rpc/router_codec.h"
#include "common/rpc/worker_codec.h"
#include "pregate/v1/router.pb.h"
#include "pregate/v1/worker.pb.h"
#include "scheduler_service/edge/grpc_link.h"

namespace pregate {
namespace {

class GrpcWorkerLink final : public WorkerLink {
 public:
  GrpcWorkerLink(LinkKind<v1::AttachResponse> kind, const std::shared_ptr<grpc::Channel>& channel,
                 std::shared_ptr<PlanEncoder> encoder, const SchedulerServer::Push& push,
                 const Log* log)
      : encoder_(std::move(encoder)), link_(std::move(kind), channel, push, log) {}
  void Send(ToWorker message) override { link_.Send(encoder_->Encode(message)); }

 private:
  const std::shared_ptr<PlanEncoder> encoder_;
  GrpcLink<v1::AttachResponse> link_;
};

class GrpcRouterLink final : public RouterLink {
 public:
  GrpcRouterLink(LinkKind<v1::RouteResponse> kind, const std::shared_ptr<grpc::Channel>& channel,
                 const SchedulerServer::Push& push, const Log* log)
      : link_(std::move(kind), channel, push, log) {}
  void Send(ToRouter message) override {
    v1::RouteRequest request = EncodeToRouter(message);
    link_.Send(ToBytes(&request));
  }

 private:
  GrpcLink<v1::RouteResponse> link_;
};

}  // namespace

grpc::ByteBuffer PlanEncoder::Encode(const ToWorker& message) {
  const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message);
  if (plan != nullptr && *plan == plan_) return bytes_;
  v1::AttachRequest request = EncodeToWorker(message);
  grpc::ByteBuffer bytes = ToBytes(&request);
  if (plan == nullptr) return bytes;
  plan_ = *plan;
  bytes_ = std::move(bytes);
  return bytes_;
}

std::unique_ptr<WorkerLink> MakeWorkerLink(int32_t rank, const std::string& address,
                                           const std::shared_ptr<grpc::Channel>& channel,
                                           std::shared_ptr<PlanEncoder> encoder,
                                           const SchedulerServer::Push& push, const Log* log) {
  LinkKind<v1::AttachResponse> kind;
  kind.name = absl::StrCat("worker ", rank);
  kind.address = address;
  kind.method = "/pregate.v1.ExpertWorker/Attach";
  kind.decode = [rank](const v1::AttachResponse& response) -> absl::StatusOr<EngineEvent> {
    ASSIGN_OR_RETURN(FromWorker message, DecodeFromWorker(response));
    return WorkerEvent{rank, std::move(message)};
  };
  kind.down = [rank](std::string reason) { return WorkerDown{rank, std::move(reason)}; };
  return std::make_unique<GrpcWorkerLink>(std::move(kind), channel, std::move(encoder), push, log);
}

std::unique_ptr<RouterLink> MakeRouterLink(const std::string& address,
                                           const std::shared_ptr<grpc::Channel>& channel,
                                           const SchedulerServer::Push& push, const Log* log) {
  LinkKind<v1::RouteResponse> kind;
  kind.name = "router";
  kind.address = address;
  kind.method = "/pregate.v1.Router/Route";
  kind.decode = [](const v1::RouteResponse& response) -> absl::StatusOr<EngineEvent> {
    ASSIGN_OR_RETURN(FromRouter message, DecodeFromRouter(response));
    return RouterEvent{std::move(message)};
  };
  kind.down = [](std::string reason) { return RouterDown{std::move(reason)}; };
  return std::make_unique<GrpcRouterLink>(std::move(kind), channel, push, log);
}

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
  const auto encoder = std::make_shared<PlanEncoder>();
  for (size_t rank = 0; rank < num_workers; ++rank) {
    links.workers.push_back(MakeWorkerLink(
        static_cast<int32_t>(rank), workers[rank].ToString(),
        dial(workers[rank], Role::kWorker, kServiceMessageBytesMax), encoder, push, log));
  }
  if (has_router) {
    links.router = MakeRouterLink(router.ToString(),
                                  dial(router, Role::kRouter, kRouteMessageBytesMax), push, log);
  }
  return links;
}

}  // namespace pregate
