#include "scheduler_service/edge/inference_service.h"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/mailbox.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/testing/rapid_resets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler_service/edge/testing/byte_model.h"
#include "scheduler_service/engine/mailbox_inbox.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The service over loopback; the test plays the engine: it takes events and answers.
class InferenceServiceTest : public ::testing::TestWithParam<Address> {
 protected:
  InferenceServiceTest()
      : clients_([this](EngineEvent e) { return inbox_.Push(std::move(e)); }),
        service_(&model_, &metrics_, &requests_, &clients_, [this] { return standing_; }) {
    auto started = RpcServer::Start({.listen = GetParam(),
                                     .message_bytes_max = kClientMessageBytesMax,
                                     .self_told = service_.self_told()},
                                    {&service_}, [] { return true; });
    EXPECT_TRUE(started.ok()) << started.status();
    rpc_ = *std::move(started);
    stub_ = v1::Inference::NewStub(MakeChannel(rpc_->bound(), kClientMessageBytesMax));
    metrics_.OnFormed(
        1, WorkerFacts{.model_digest = "digest-1", .numerics_id = "n", .context_tokens = 64});
  }

  // The next event of one kind; others before it are an error.
  template <typename Event>
  Event Await() {
    if (pending_.empty()) pending_ = inbox_.Wait(absl::Seconds(20));
    EXPECT_FALSE(pending_.empty());
    EXPECT_TRUE(std::holds_alternative<Event>(pending_.front()));
    Event event = std::get<Event>(std::move(pending_.front()));
    pending_.erase(pending_.begin());
    return event;
  }

  v1::GenerateRequest Request(const std::string& text) {
    v1::GenerateRequest request;
    request.set_text(text);
    return request;
  }

  // Lines of the log that contain `part`. One is written before its client hears of the end.
  std::vector<std::string> Lines(const std::string& part) {
    absl::MutexLock lock(&lines_mutex_);
    std::vector<std::string> found;
    for (const std::string& line : lines_) {
      if (absl::StrContains(line, part)) found.push_back(line);
    }
    return found;
  }

  absl::Mutex lines_mutex_;
  std::vector<std::string> lines_;
  Log log_{"test", {}, [this](absl::string_view line) {
             absl::MutexLock lock(&lines_mutex_);
             lines_.emplace_back(line);
           }};
  SystemClock clock_;
  MetricsRegistry registry_{"bytes"};
  const ServedModel model_ = testing::MakeByteModel();
  SchedulerMetrics metrics_{&registry_, &log_, 3};
  RequestLog requests_{&log_, &clock_};
  Mailbox<EngineEvent> inbox_{100};
  std::vector<EngineEvent> pending_;
  SchedulerPeer clients_;
  ClusterStanding standing_;
  InferenceService service_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

INSTANTIATE_TEST_SUITE_P(Addresses, InferenceServiceTest,
                         ::testing::Values(Address{.host = "127.0.0.1"},
                                           Address{.path = absl::StrCat("/tmp/pregate-", getpid(),
                                                                        "-inference")}));

TEST_P(InferenceServiceTest, StreamsStartTokensAndDone) {
  grpc::ClientContext context;
  v1::GenerateRequest request = Request("ab");
  request.set_request_id("mine");
  request.set_tenant("a tenant");
  const auto reader = stub_->Generate(&context, request);
  const auto submit = Await<SubmitEvent>();
  EXPECT_THAT(submit.request.prompt, ElementsAre('a', 'b'));
  EXPECT_EQ(submit.request.deadline, absl::InfiniteFuture());
  submit.send(StartInfo{.seed = 9, .prompt_tokens = 2});
  constexpr int kTokens = 500;
  for (int i = 0; i < kTokens; ++i) {
    submit.send(TokensOut{.tokens = {i % 256}, .routes = {i % 3}, .text = "t"});
  }
  submit.send(DoneInfo{.reason = FinishReason::kLength,
                       .prompt_tokens = 2,
                       .generated_tokens = kTokens,
                       .ttft = absl::Milliseconds(12.5),
                       .token_gap = absl::Milliseconds(2.5)});

  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.start().request_id(), "mine");
  EXPECT_EQ(response.start().seed(), 9u);
  for (int i = 0; i < kTokens; ++i) {
    ASSERT_TRUE(reader->Read(&response));
    ASSERT_THAT(response.tokens().ids(), ElementsAre(i % 256));
    ASSERT_THAT(response.tokens().routes(), ElementsAre(i % 3));
  }
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.done().usage().generated_tokens(), kTokens);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(Lines("request id="),
              ElementsAre(HasSubstr("id=\"mine\" tenant=\"a tenant\" trace_id=\"\" "
                                    "prompt_tokens=2 generated_tokens=500 ttft_ms=12.5 "
                                    "itl_ms=2.5 queue_ms=0 total_ms=0 "
                                    "finish=\"length\" status=\"OK\"")));
  EXPECT_THAT(registry_.Serialize(),
              HasSubstr("pregate_generation_tokens_total{model=\"bytes\"} 500"));
}

TEST_P(InferenceServiceTest, TheCallersTraceIsInTheLine) {
  for (const std::string& header :
       {std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string("nonsense")}) {
    grpc::ClientContext context;
    context.AddMetadata("traceparent", header);
    v1::GenerateRequest request = Request("ab");
    request.set_request_id(absl::StrCat("of ", header));
    const auto reader = stub_->Generate(&context, request);
    Await<SubmitEvent>().send(DoneInfo{});
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
    }
    EXPECT_TRUE(reader->Finish().ok());
  }
  EXPECT_THAT(Lines("id=\"of 00"),
              ElementsAre(HasSubstr("trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"")));
  EXPECT_THAT(Lines("id=\"of nonsense"), ElementsAre(HasSubstr("trace_id=\"\"")));
}

TEST_P(InferenceServiceTest, RequestLinesAreHeldToARate) {
  for (int i = 0; i < kRequestLinesMax + 50; ++i) {
    requests_.Add({.request_id = absl::StrCat("r", i)}, absl::UnavailableError("gone"), {});
  }
  // Where the second changed meanwhile, there were more lines and a count of those left out.
  EXPECT_GE(Lines("request id=").size(), size_t{kRequestLinesMax});
  if (Lines("requests without a line").empty()) {
    EXPECT_EQ(Lines("request id=").size(), size_t{kRequestLinesMax});
  }
}

TEST_P(InferenceServiceTest, ABadRequestNeverReachesTheEngine) {
  grpc::ClientContext context;
  v1::GenerateRequest request = Request("a");
  request.set_n(33);
  v1::GenerateResponse response;
  const auto reader = stub_->Generate(&context, request);
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("n is 33"));
  EXPECT_TRUE(inbox_.Wait(absl::ZeroDuration()).empty());
  EXPECT_THAT(Lines("request id="), ElementsAre(HasSubstr("status=\"INVALID_ARGUMENT\"")));
  EXPECT_THAT(registry_.Serialize(), HasSubstr("finish_reason=\"invalid\"} 1\n"));
}

// protobuf refuses such messages when it parses them; gRPC would say INTERNAL and no more.
TEST_P(InferenceServiceTest, TextThatIsNotUtf8IsRefusedByTheNameOfItsField) {
  const auto refusal = [&](const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const auto reader = stub_->Generate(&context, request);
    EXPECT_FALSE(reader->Read(&response));
    const grpc::Status status = reader->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  EXPECT_THAT(refusal(Request("ab\xFF")), HasSubstr("text is not UTF-8: byte 2 (line 1) is 0xFF"));
  v1::GenerateRequest request = Request("a");
  request.set_tenant("\xC3");
  EXPECT_THAT(refusal(request), HasSubstr("tenant is not UTF-8: byte 0"));
  request = Request("a");
  request.add_stop_strings("x");
  request.add_stop_strings("\xED\xA0\x80");
  EXPECT_THAT(refusal(request), HasSubstr("stop_strings[1] is not UTF-8"));
  request.Clear();
  request.mutable_chat()->add_messages()->set_role("user");
  request.mutable_chat()->add_messages()->set_content("\x80");
  EXPECT_THAT(refusal(request), HasSubstr("chat.messages[1].content is not UTF-8"));

  v1::TokenizeRequest tokenize;
  tokenize.set_text("\xF0\x9F");
  v1::TokenizeResponse ids;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Tokenize(&context, tokenize, &ids);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("text is not UTF-8: byte 0"));
  EXPECT_TRUE(inbox_.Wait(absl::ZeroDuration()).empty());
}

TEST_P(InferenceServiceTest, BytesThatAreNoMessageAreInvalid) {
  grpc::GenericStub stub(MakeChannel(rpc_->bound(), kClientMessageBytesMax));
  for (const char* method : {"Generate", "Tokenize", "Detokenize"}) {
    for (const std::string& bytes :
         {std::string("\x0A\xFF"), std::string("\x0B"), std::string("\x08")}) {
      grpc::ClientContext context;
      grpc::CompletionQueue queue;
      const grpc::Slice slice(bytes);
      const grpc::ByteBuffer request(&slice, 1);
      const auto call = stub.PrepareUnaryCall(
          &context, absl::StrCat("/pregate.v1.Inference/", method), request, &queue);
      call->StartCall();
      grpc::ByteBuffer response;
      grpc::Status status;
      call->Finish(&response, &status, nullptr);
      void* tag = nullptr;
      bool ok = false;
      ASSERT_TRUE(queue.Next(&tag, &ok));
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
      EXPECT_FALSE(status.error_message().empty()) << method;
    }
  }
}

// Nobody else counts them: an interceptor would double what each token costs.
TEST_P(InferenceServiceTest, AConnectionThatResetsItsCallsIsCut) {
  if (GetParam().is_unix()) GTEST_SKIP() << "clients of a Unix socket have no name";
  EXPECT_TRUE(testing::CutsRapidResets(rpc_->bound(), "/pregate.v1.Inference/Generate"));
  const absl::Time end = absl::Now() + absl::Minutes(1);
  while (service_.num_streams() > 0 && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  Await<SubmitEvent>().send(DoneInfo{});
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_P(InferenceServiceTest, ARefusalCarriesRetryPushback) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  Await<SubmitEvent>().send(DoneInfo{.status = absl::ResourceExhaustedError("full"),
                                     .reason = FinishReason::kError,
                                     .retry_after = absl::Milliseconds(250)});
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_FALSE(status.error_details().empty());
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto pushback = trailers.find("grpc-retry-pushback-ms");
  ASSERT_NE(pushback, trailers.end());
  EXPECT_EQ(std::string(pushback->second.data(), pushback->second.size()), "250");
}

TEST_P(InferenceServiceTest, AClientThatCancelsIsCancelledInTheEngine) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  const auto submit = Await<SubmitEvent>();
  submit.send(StartInfo{});
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  context.TryCancel();
  EXPECT_EQ(Await<DetachEvent>().link, submit.link);
  submit.send(TokensOut{.tokens = {1}});  // a late answer goes nowhere
  submit.send(DoneInfo{.status = absl::CancelledError(""), .reason = FinishReason::kCancelled});
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_P(InferenceServiceTest, TheCallsDeadlineIsTheRequests) {
  grpc::ClientContext context;
  const auto deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(300);
  context.set_deadline(deadline);
  const auto reader = stub_->Generate(&context, Request("a"));
  const auto submit = Await<SubmitEvent>();
  EXPECT_LT(submit.request.deadline, absl::FromChrono(deadline) + absl::Seconds(1));
  EXPECT_EQ(Await<DetachEvent>().link, submit.link);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_P(InferenceServiceTest, AClientThatDoesNotReadIsCancelled) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  const auto submit = Await<SubmitEvent>();
  const std::string text(4096, 'x');  // fills the transport's windows soon
  std::optional<uint64_t> cancelled;
  constexpr int kMessages = 100 * kStreamQueueMessages;
  for (int i = 0; i < kMessages && !cancelled; ++i) {
    submit.send(TokensOut{.tokens = {1}, .routes = {0}, .text = text});
    for (const EngineEvent& event : inbox_.Wait(absl::ZeroDuration())) {
      if (const auto* cancel = std::get_if<DetachEvent>(&event)) cancelled = cancel->link;
    }
  }
  EXPECT_EQ(cancelled, submit.link);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

// Few messages wait for it, but they would wait for ever.
TEST_P(InferenceServiceTest, AClientThatTakesNothingForAWhileIsCancelled) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  const auto submit = Await<SubmitEvent>();
  const std::string text(4096, 'x');
  for (int i = 0; i < kStreamQueueMessages / 2; ++i) {
    submit.send(TokensOut{.tokens = {1}, .routes = {0}, .text = text});
  }
  submit.send(DoneInfo{});
  const absl::Time start = absl::Now();
  while (service_.num_streams() > 0 && absl::Now() - start < absl::Seconds(30)) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(service_.num_streams(), 0);
  EXPECT_LT(absl::Now() - start, 3 * absl::Milliseconds(kSlowClientMsMax));
}

TEST_P(InferenceServiceTest, OneStreamTooManyIsToldWhenToComeAgain) {
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (int i = 0; i < kClientStreamsMax; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    readers.push_back(stub_->Generate(contexts.back().get(), Request("a")));
    Await<SubmitEvent>();
  }
  // Over another connection: one has kClientStreamsMax at most.
  const auto other = v1::Inference::NewStub(MakeChannel(rpc_->bound(), kClientMessageBytesMax));
  grpc::ClientContext context;
  const auto reader = other->Generate(&context, Request("a"));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(context.GetServerTrailingMetadata().count("grpc-retry-pushback-ms"), 1u);
  for (const auto& open : contexts) open->TryCancel();
  for (const auto& open : readers) open->Finish();
}

TEST_P(InferenceServiceTest, AFullInboxIsAnOverload) {
  while (inbox_.Push(DrainEvent{})) {
  }
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Request("a"));
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_P(InferenceServiceTest, TokenizesDetokenizesAndDescribesTheModel) {
  grpc::ClientContext a, b, c;
  v1::TokenizeRequest tokenize;
  tokenize.set_text("hi");
  v1::TokenizeResponse ids;
  ASSERT_TRUE(stub_->Tokenize(&a, tokenize, &ids).ok());
  EXPECT_THAT(ids.ids(), ElementsAre('h', 'i'));
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_ids() = ids.ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(stub_->Detokenize(&b, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "hi");
  v1::GetModelInfoResponse info;
  ASSERT_TRUE(stub_->GetModelInfo(&c, v1::GetModelInfoRequest(), &info).ok());
  EXPECT_EQ(info.model(), "bytes");
  EXPECT_EQ(info.numerics_id(), "n");
  EXPECT_EQ(info.context_tokens(), 64);
  EXPECT_EQ(info.num_experts(), 3);
}

TEST_P(InferenceServiceTest, TellsWhatTheEngineShows) {
  standing_.epoch = 4;
  standing_.gauges.requests_waiting = 9;
  grpc::ClientContext context;
  v1::GetClusterStatusResponse status;
  ASSERT_TRUE(stub_->GetClusterStatus(&context, v1::GetClusterStatusRequest(), &status).ok());
  EXPECT_EQ(status.model(), "bytes");
  EXPECT_EQ(status.epoch(), 4);
  EXPECT_EQ(status.requests_waiting(), 9);
}

TEST_P(InferenceServiceTest, NoStreamStaysOpen) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([this, i] {
      grpc::ClientContext context;
      const auto reader = stub_->Generate(&context, Request("a"));
      if (i % 2 == 0) context.TryCancel();
      v1::GenerateResponse response;
      while (reader->Read(&response)) {
      }
      reader->Finish();
    });
  }
  std::thread engine([this] {
    while (true) {
      for (EngineEvent& event : inbox_.Wait(absl::Milliseconds(20))) {
        if (std::holds_alternative<DrainEvent>(event)) return;
        if (auto* submit = std::get_if<SubmitEvent>(&event)) {
          submit->send(StartInfo{});
          submit->send(DoneInfo{});
        }
      }
    }
  });
  for (std::thread& client : clients) client.join();
  rpc_->Shutdown(absl::Seconds(10));
  inbox_.Push(DrainEvent{});
  engine.join();
  EXPECT_EQ(service_.num_streams(), 0);
}

}  // namespace
}  // namespace pregate
