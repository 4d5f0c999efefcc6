#include <grpcpp/grpcpp.h>

#include "cli/generator.h"
#include "cli/remote_server.h"
#include "common/base/status.h"
#include "common/rpc/health_client.h"
#include "common/rpc/status.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate::cli {
namespace {

const char* ReasonName(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "length";
    case v1::FINISH_REASON_STOP_TOKEN:
      return "stop_token";
    case v1::FINISH_REASON_STOP_STRING:
      return "stop_string";
    default:
      return "unspecified";
  }
}

v1::GenerateRequest ToProto(const GenerateJob& job) {
  v1::GenerateRequest request;
  if (job.chat) {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(job.prompt);
  } else {
    request.set_text(job.prompt);
  }
  v1::Sampling* sampling = request.mutable_sampling();
  sampling->set_temperature(job.sampling.temperature);
  sampling->set_top_k(job.sampling.top_k);
  sampling->set_top_p(job.sampling.top_p);
  sampling->set_min_p(job.sampling.min_p);
  sampling->set_repetition_penalty(job.sampling.repetition_penalty);
  if (job.seed) sampling->set_seed(*job.seed);
  if (job.max_tokens) request.set_max_tokens(*job.max_tokens);
  request.set_ignore_eos(job.ignore_eos);
  request.set_return_routes(true);
  return request;
}

class RemoteGenerator final : public Generator {
 public:
  explicit RemoteGenerator(std::unique_ptr<RemoteServer> server)
      : server_(std::move(server)), stub_(v1::Inference::NewStub(server_->channel())) {}

  absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job, const OnText& on_text) override {
    GenerateOutcome outcome;
    TokenTimer timer;
    grpc::ClientContext context;
    auto stream = stub_->Generate(&context, ToProto(job));
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      Add(response, &outcome, &timer, on_text);
    }
    RETURN_IF_ERROR(FromGrpcStatus(stream->Finish()));
    timer.Report(&outcome);
    return outcome;
  }

 private:
  static void Add(const v1::GenerateResponse& response, GenerateOutcome* outcome, TokenTimer* timer,
                  const OnText& on_text) {
    if (response.has_start()) {
      const v1::GenerateStart& start = response.start();
      outcome->seed = start.seed();
      outcome->prompt_tokens = start.prompt_tokens();
      outcome->prompt_routes.assign(start.prompt_routes().begin(), start.prompt_routes().end());
    } else if (response.has_tokens()) {
      const v1::GenerateTokens& tokens = response.tokens();
      timer->Add(tokens.ids_size());
      outcome->ids.insert(outcome->ids.end(), tokens.ids().begin(), tokens.ids().end());
      outcome->routes.insert(outcome->routes.end(), tokens.routes().begin(), tokens.routes().end());
      outcome->text += tokens.text();
      on_text(tokens.text());
    } else if (response.has_done()) {
      outcome->finish_reason = ReasonName(response.done().finish_reason());
    }
  }

  const std::unique_ptr<RemoteServer> server_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
};

// Ready as grpc.health.v1 says it.
absl::Status WaitUntilReady(const std::shared_ptr<grpc::Channel>& channel,
                            const std::string& address, absl::Duration wait) {
  if (AwaitServing(channel, true, wait)) return absl::OkStatus();
  const absl::StatusOr<bool> serving = IsServing(channel, absl::Seconds(1));
  if (serving.ok() && *serving) return absl::OkStatus();
  const std::string last =
      serving.ok() ? "it is not ready" : std::string(serving.status().message());
  return absl::UnavailableError(
      absl::StrCat("--server ", address, ": ", last, " (waited ", absl::FormatDuration(wait), ")"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Generator>> MakeRemoteGenerator(const std::string& address,
                                                               const TlsOptions& tls,
                                                               absl::Duration wait) {
  ASSIGN_OR_RETURN(auto server, RemoteServer::Open(address, tls, {Role::kClient, Role::kOperator},
                                                   {Role::kScheduler}));
  if (wait > absl::ZeroDuration()) {
    RETURN_IF_ERROR(WaitUntilReady(server->channel(), address, wait));
  }
  return std::make_unique<RemoteGenerator>(std::move(server));
}

}  // namespace pregate::cli
