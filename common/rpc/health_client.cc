#include "common/rpc/health_client.h"

#include <grpcpp/client_context.h>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/rpc/status.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace pregate {
namespace {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

bool IsServing(const HealthCheckResponse& response) {
  return response.status() == HealthCheckResponse::SERVING;
}

}  // namespace

absl::StatusOr<bool> HealthClient::Check(absl::Duration timeout) const {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  HealthCheckResponse response;
  RETURN_IF_ERROR(
      FromGrpcStatus(Health::NewStub(channel_)->Check(&context, HealthCheckRequest(), &response)));
  return IsServing(response);
}

bool HealthClient::WaitUntil(bool serving, absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  const auto stub = Health::NewStub(channel_);
  while (absl::Now() < deadline) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    context.set_wait_for_ready(serving);
    const auto reader = stub->Watch(&context, HealthCheckRequest());
    HealthCheckResponse response;
    bool reached = false;
    while (!reached && reader->Read(&response)) reached = IsServing(response) == serving;
    context.TryCancel();
    const grpc::Status status = reader->Finish();
    if (reached || (!serving && status.error_code() == grpc::StatusCode::UNAVAILABLE)) return true;
    absl::SleepFor(absl::Milliseconds(kReconnectBackoffMsMin));
  }
  return false;
}

}  // namespace pregate
