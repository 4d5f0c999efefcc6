#include "common/rpc/health_client.h"

#include <grpcpp/client_context.h>

#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/status.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace pregate {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

bool SaysServing(const HealthCheckResponse& response) {
  return response.status() == HealthCheckResponse::SERVING;
}

}  // namespace

absl::StatusOr<bool> IsServing(const std::shared_ptr<grpc::Channel>& channel,
                               absl::Duration timeout, const std::string& service) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  HealthCheckRequest request;
  request.set_service(service);
  HealthCheckResponse response;
  RETURN_IF_ERROR(FromGrpcStatus(Health::NewStub(channel)->Check(&context, request, &response)));
  return SaysServing(response);
}

bool AwaitServing(const std::shared_ptr<grpc::Channel>& channel, bool serving,
                  absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  const auto stub = Health::NewStub(channel);
  while (absl::Now() < deadline) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    context.set_wait_for_ready(serving);
    const auto reader = stub->Watch(&context, HealthCheckRequest());
    HealthCheckResponse response;
    bool reached = false;
    while (!reached && reader->Read(&response)) reached = SaysServing(response) == serving;
    context.TryCancel();
    const grpc::Status status = reader->Finish();
    if (reached || (!serving && status.error_code() == grpc::StatusCode::UNAVAILABLE)) return true;
    absl::SleepFor(absl::Milliseconds(kReconnectBackoffMsMin));
  }
  return false;
}

}  // namespace pregate
