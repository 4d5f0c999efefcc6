#include <grpcpp/grpcpp.h>

#include "absl/cleanup/cleanup.h"
#include "absl/synchronization/mutex.h"
#include "cli/generator.h"
#include "cli/remote_server.h"
#include "common/base/status.h"
#include "common/rpc/health_client.h"
#include "common/rpc/sampling_codec.h"
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

v1::Chat ToProto(const std::vector<ChatMessage>& messages) {
  v1::Chat chat;
  for (const ChatMessage& m : messages) {
    v1::ChatMessage* message = chat.add_messages();
    message->set_role(m.role);
    message->set_content(m.content);
  }
  return chat;
}

v1::GenerateRequest ToProto(const GenerateJob& job) {
  v1::GenerateRequest request;
  if (const std::vector<ChatMessage> messages = Conversation(job); !messages.empty()) {
    *request.mutable_chat() = ToProto(messages);
  } else {
    request.set_text(job.prompt);
  }
  v1::Sampling* sampling = request.mutable_sampling();
  EncodeSampling(job.sampling, sampling);
  if (job.seed) sampling->set_seed(*job.seed);
  if (job.max_tokens) request.set_max_tokens(*job.max_tokens);
  request.set_ignore_eos(job.ignore_eos);
  request.set_no_drafts(job.no_drafts);
  request.set_return_routes(true);
  return request;
}

class RemoteGenerator final : public RemoteClient {
 public:
  explicit RemoteGenerator(std::unique_ptr<RemoteServer> server)
      : server_(std::move(server)), stub_(v1::Inference::NewStub(server_->channel())) {}

  absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job, const OnText& on_text) override {
    GenerateOutcome outcome;
    TokenTimer timer;
    grpc::ClientContext context;
    if (job.timeout > absl::ZeroDuration()) {
      context.set_deadline(absl::ToChronoTime(absl::Now() + job.timeout));
    }
    SetCurrent(&context);
    const absl::Cleanup over = [this] { SetCurrent(nullptr); };
    auto stream = stub_->Generate(&context, ToProto(job));
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      Add(response, &outcome, &timer, on_text);
    }
    const absl::Status status = server_->Explain(FromGrpcStatus(stream->Finish()));
    if (absl::IsDeadlineExceeded(status) && job.timeout > absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "the answer was not complete after --timeout-s ", absl::FormatDuration(job.timeout), "; ",
          outcome.ids.size(), " tokens came: ", status.message()));
    }
    RETURN_IF_ERROR(status);
    timer.Report(&outcome);
    return outcome;
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    if (current_ != nullptr) current_->TryCancel();
  }

  absl::StatusOr<int32_t> CountTokens(const std::vector<ChatMessage>& messages) override {
    v1::TokenizeRequest request;
    *request.mutable_chat() = ToProto(messages);
    v1::TokenizeResponse response;
    grpc::ClientContext context;
    SetDeadline(&context);
    RETURN_IF_ERROR(
        server_->Explain(FromGrpcStatus(stub_->Tokenize(&context, request, &response))));
    return response.ids_size();
  }

  absl::StatusOr<Model> Describe() override {
    v1::GetModelInfoResponse response;
    grpc::ClientContext context;
    SetDeadline(&context);
    RETURN_IF_ERROR(server_->Explain(FromGrpcStatus(stub_->GetModelInfo(&context, {}, &response))));
    return Model{response.model(), response.context_tokens()};
  }

 private:
  // Of calls that only ask; a generation takes as long as it takes.
  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  }

  void SetCurrent(grpc::ClientContext* context) {
    absl::MutexLock lock(&mutex_);
    current_ = context;
  }

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
      outcome->draft_tokens = response.done().usage().draft_tokens();
      outcome->accepted_tokens = response.done().usage().accepted_tokens();
    }
  }

  const std::unique_ptr<RemoteServer> server_;
  const std::unique_ptr<v1::Inference::Stub> stub_;
  absl::Mutex mutex_;
  grpc::ClientContext* current_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of a Generate under way
};

// Ready as grpc.health.v1 says it.
absl::Status WaitUntilReady(const RemoteServer& server, const std::string& address,
                            absl::Duration wait) {
  const std::shared_ptr<grpc::Channel>& channel = server.channel();
  if (AwaitServing(channel, true, wait)) return absl::OkStatus();
  const absl::StatusOr<bool> serving = IsServing(channel, absl::Seconds(1));
  if (serving.ok() && *serving) return absl::OkStatus();
  const std::string last =
      serving.ok() ? "it is not ready" : std::string(server.Explain(serving.status()).message());
  return absl::UnavailableError(
      absl::StrCat("--server ", address, ": ", last, " (waited ", absl::FormatDuration(wait), ")"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteClient>> MakeRemoteGenerator(const std::string& address,
                                                                  const TlsOptions& tls,
                                                                  absl::Duration wait) {
  ASSIGN_OR_RETURN(auto server, RemoteServer::Open(address, tls, {Role::kClient, Role::kOperator},
                                                   {Role::kScheduler}));
  if (wait > absl::ZeroDuration()) {
    RETURN_IF_ERROR(WaitUntilReady(*server, address, wait));
  }
  return std::make_unique<RemoteGenerator>(std::move(server));
}

}  // namespace pregate::cli
