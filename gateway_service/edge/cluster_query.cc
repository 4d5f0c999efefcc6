#include "gateway_service/edge/cluster_query.h"

#include <grpcpp/client_context.h>

#include <utility>

#include "absl/time/clock.h"
#include "common/base/gateway_limits.h"
#include "common/rpc/status.h"
#include "gateway_service/edge/cluster_codec.h"

namespace pregate::gateway {

struct ClusterQuery::Call {
  Asked asked;
  grpc::ClientContext context;
  v1::GetClusterStatusRequest request;
  v1::GetClusterStatusResponse response;
};

ClusterQuery::ClusterQuery(std::vector<Asked> schedulers, Done done, Forget forget)
    : num_open_(schedulers.size()),
      answers_(schedulers.size()),
      done_(std::move(done)),
      forget_(std::move(forget)) {
  for (Asked& asked : schedulers) {
    calls_.push_back(std::make_unique<Call>());
    calls_.back()->asked = std::move(asked);
  }
}

void ClusterQuery::Begin() {
  const absl::Time deadline = absl::Now() + absl::Milliseconds(kSchedulerProbeTimeoutMs);
  for (size_t i = 0; i < calls_.size(); ++i) {
    Call* const call = calls_[i].get();
    call->context.set_deadline(absl::ToChronoTime(deadline));
    call->asked.stub->async()->GetClusterStatus(
        &call->context, &call->request, &call->response,
        [self = shared_from_this(), call, i](const grpc::Status& status) {
          SchedulerStatus answer{.name = call->asked.name};
          if (status.ok()) {
            answer.cell = DecodeClusterStatus(call->response);
          } else {
            answer.why_not = FromGrpcStatus(status).ToString();
          }
          self->OnAnswer(i, std::move(answer));
        });
  }
}

void ClusterQuery::Cancel() {
  for (const auto& call : calls_) call->context.TryCancel();
}

void ClusterQuery::OnAnswer(size_t index, SchedulerStatus answer) {
  std::vector<SchedulerStatus> answers;
  {
    absl::MutexLock lock(&mutex_);
    answers_[index] = std::move(answer);
    if (--num_open_ > 0) return;
    answers = std::move(answers_);
  }
  done_(std::move(answers));
  forget_(shared_from_this());
}

}  // namespace pregate::gateway
