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

struct SetConstraint {
  v1::GenerateRequest* request;

  void operator()(const JsonObjectConstraint&) const { request->set_json_object(true); }
  void operator()(const JsonSchemaConstraint& json) const { request->set_json_schema(json.schema); }
  void operator()(const RegexConstraint& regex) const { request->set_regex(regex.pattern); }
  void operator()(const ChoiceConstraint& choice) const {
    request->mutable_choice()->mutable_texts()->Add(choice.texts.begin(), choice.texts.end());
  }
  void operator()(const MarkedJsonConstraint& marked) const {
    v1::MarkedJson* const out = request->mutable_marked_json();
    out->set_begin(marked.begin);
    out->set_end(marked.end);
    out->set_json_schema(marked.schema);
    out->set_once(marked.once);
  }
};

v1::GenerateRequest ToProto(const GenerateJob& job) {
  v1::GenerateRequest request;
  if (const std::vector<ChatMessage> messages = Conversation(job); !messages.empty()) {
    *request.mutable_chat() = ToProto(messages);
  } else {
    request.set_text(job.prompt);
  }
  v1::Sampling* sampling = request.mutable_sampling();
  EncodeSampling(job.sampling, sampling);
  EncodeLogitBias(job.logit_bias, sampling);
  if (job.seed) sampling->set_seed(*job.seed);
  request.set_tenant(job.tenant);
  request.set_priority(job.priority);
  if (job.max_tokens) request.set_max_tokens(*job.max_tokens);
  request.set_min_tokens(job.min_tokens);
  request.mutable_stop_strings()->Add(job.stop_strings.begin(), job.stop_strings.end());
  if (job.logprobs) request.set_logprobs(*job.logprobs);
  if (job.prompt_logprobs) request.set_prompt_logprobs(*job.prompt_logprobs);
  request.set_n(job.n);
  request.set_best_of(job.best_of);
  request.set_echo(job.echo);
  request.set_ignore_eos(job.ignore_eos);
  request.set_no_drafts(job.no_drafts);
  if (job.constraint) std::visit(SetConstraint{&request}, *job.constraint);
  request.set_return_routes(true);
  return request;
}

TokenProbability FromProto(const v1::TokenProbability& in) {
  return {in.id(), in.logprob(), in.bytes()};
}

template <typename Repeated>
void AddLogprobs(const Repeated& from, std::vector<TokenProbabilities>* to) {
  for (const v1::TokenProbabilities& in : from) {
    TokenProbabilities& added = to->emplace_back();
    added.push_back(FromProto(in.token()));
    for (const v1::TokenProbability& one : in.top()) added.push_back(FromProto(one));
  }
}

template <typename Repeated, typename T>
void Append(const Repeated& from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
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
      Append(start.prompt_routes(), &outcome->prompt_routes);
      Append(start.prompt_ids(), &outcome->prompt_ids);
      outcome->prompt_text = start.prompt_text();
    } else if (response.has_prompt()) {
      AddLogprobs(response.prompt().logprobs(), &outcome->prompt_logprobs);
    } else if (response.has_tokens()) {
      const v1::GenerateTokens& tokens = response.tokens();
      timer->Add(tokens.ids_size());
      GenerateChoice& choice = ChoiceOf(outcome, tokens.index());
      Append(tokens.ids(), &choice.ids);
      Append(tokens.routes(), &choice.routes);
      AddLogprobs(tokens.logprobs(), &choice.logprobs);
      choice.text += tokens.text();
      if (tokens.index() == 0) on_text(tokens.text());
    } else if (response.has_choice_done()) {
      const v1::GenerateChoiceDone& done = response.choice_done();
      ChoiceOf(outcome, done.index()).finish_reason = ReasonName(done.finish_reason());
    } else if (response.has_done()) {
      outcome->finish_reason = ReasonName(response.done().finish_reason());
      outcome->generated_tokens = response.done().usage().generated_tokens();
      outcome->cached_tokens = response.done().usage().cached_tokens();
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
