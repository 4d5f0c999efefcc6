// A real server over a real engine, reached by the scheduler's own link.
#include "router_service/edge/route_service.h"

#include <unistd.h>

#include <deque>
#include <map>
#include <stdexcept>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/mailbox.h"
#include "common/router/testing/random_router.h"
#include "common/router/testing/test_devices.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/testing/rapid_resets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router_service/engine/offline_router.h"
#include "router_service/engine/router_engine.h"
#include "scheduler_service/edge/scheduler_links.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr int kVocab = 71;

std::unique_ptr<InMemoryCheckpoint> SomeRouter() {
  return MakeRandomRouter(
      RouterOnlySpec(kVocab, 5,
                     {.num_layers = 1, .num_heads = 2, .hidden = 16, .intermediate = 16}),
      11);
}

// One router process's worth of objects.
struct Server {
  const std::unique_ptr<Device> device = MakeTestDevice("cpu");
  SystemClock clock;
  RouterObserver observer;
  std::unique_ptr<RouterEngine> engine;
  std::unique_ptr<RouteService> service;
  std::unique_ptr<RpcServer> rpc;

  explicit Server(const Address& address, uint64_t boot_id = 1, int streams_max = 8) {
    auto started = RouterEngine::Start(*SomeRouter(), *device, clock, observer,
                                       {.context_tokens_max = 512, .boot_id = boot_id});
    EXPECT_TRUE(started.ok()) << started.status();
    engine = *std::move(started);
    service = std::make_unique<RouteService>(engine.get(), streams_max);
    auto listening = RpcServer::Start({.listen = address,
                                       .message_bytes_max = kRouteMessageBytesMax,
                                       .self_told = service->self_told()},
                                      {service.get()}, [] { return true; });
    EXPECT_TRUE(listening.ok()) << listening.status();
    rpc = *std::move(listening);
  }
};

// A scheduler's side: its link and the events that came.
class Client {
 public:
  explicit Client(const Address& address)
      : link_(MakeRouterLink(
            address.ToString(), MakeChannel(address, kRouteMessageBytesMax),
            [this](EngineEvent event) { return events_.Push(std::move(event)); }, &log_)) {}

  void Send(ToRouter message) { link_->Send(std::move(message)); }

  EngineEvent Next() {
    if (queue_.empty()) {
      for (EngineEvent& event : events_.Wait(absl::Seconds(30))) queue_.push_back(std::move(event));
    }
    if (queue_.empty()) throw std::runtime_error("no event came within 30 s");
    EngineEvent event = std::move(queue_.front());
    queue_.pop_front();
    return event;
  }
  RouterHello NextHello() { return std::get<RouterHello>(std::get<RouterEvent>(Next()).message); }
  RouteResponse NextResponse() {
    return std::get<RouteResponse>(std::get<RouterEvent>(Next()).message);
  }
  std::string NextDown() { return std::get<RouterDown>(Next()).reason; }

 private:
  const Log log_{"test", {.level = "error"}};
  Mailbox<EngineEvent> events_{100000};
  std::deque<EngineEvent> queue_;
  std::unique_ptr<RouterLink> link_;  // last: pushes until it is gone
};

// Dials without the link's codec, to send what it never would.
class RawClient {
 public:
  explicit RawClient(const Address& address)
      : stub_(v1::Router::NewStub(MakeChannel(address, kServiceMessageBytesMax))),
        stream_(stub_->Route(&context_)) {}

  absl::Status SendAndFinish(const v1::RouteRequest& request) {
    stream_->Write(request);
    v1::RouteResponse response;
    while (stream_->Read(&response)) last_ = response;
    return FromGrpcStatus(stream_->Finish());
  }
  const v1::RouteResponse& last() const { return last_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::Router::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::RouteRequest, v1::RouteResponse>> stream_;
  v1::RouteResponse last_;
};

Address SocketAddress(const char* name) {
  return {.path = absl::StrCat("/tmp/pregate-", getpid(), "-", name)};
}

std::vector<TokenId> SomeTokens(int count, int salt) {
  std::vector<TokenId> tokens(count);
  for (int i = 0; i < count; ++i) tokens[i] = (i * 31 + salt * 7 + i * i) % kVocab;
  return tokens;
}

std::vector<ExpertId> Expected(const std::vector<TokenId>& tokens) {
  const auto device = MakeTestDevice("cpu");
  return (*OfflineRouter::Create(*SomeRouter(), *device, 512))->RouteAll(tokens)->routes;
}

TEST(RouteServiceTest, RoutesOverTheSchedulersLink) {
  Server server({.host = "127.0.0.1"}, 77);
  Client client(server.rpc->bound());
  const RouterHello hello = client.NextHello();
  EXPECT_EQ(hello.boot_id, 77u);
  EXPECT_EQ(hello.router_digest, server.engine->hello().router_digest);
  EXPECT_EQ(hello.num_experts, 5);
  EXPECT_EQ(hello.vocab_size, kVocab);

  constexpr int kSessions = 40;
  for (int s = 0; s < kSessions; ++s) {
    client.Send(RouteRequest{.seq_id = static_cast<SeqId>(s), .tokens = SomeTokens(50, s)});
  }
  for (int i = 0; i < kSessions; ++i) {
    const RouteResponse response = client.NextResponse();
    EXPECT_EQ(response.routes, Expected(SomeTokens(50, static_cast<int>(response.seq_id))));
  }
}

TEST(RouteServiceTest, AnswersGapsClosesAndErrorsAndTheStreamGoesOn) {
  Server server({.host = "127.0.0.1"});
  Client client(server.rpc->bound());
  client.NextHello();
  client.Send(RouteRequest{.seq_id = 1, .tokens = SomeTokens(10, 0)});
  client.Send(RouteRequest{.seq_id = 1, .base = 10, .tokens = {kVocab}});
  client.Send(CloseSession{.seq_id = 1});
  client.Send(RouteRequest{.seq_id = 1, .base = 10, .tokens = {3}});
  client.Send(RouteRequest{.seq_id = 2, .tokens = std::vector<TokenId>(kRouteTokensMax + 1, 0)});
  client.Send(RouteRequest{.seq_id = 3, .tokens = SomeTokens(4, 1)});
  std::map<SeqId, std::vector<RouteResponse>> answers;
  while (answers[3].empty()) {
    const RouteResponse response = client.NextResponse();
    answers[response.seq_id].push_back(response);
  }
  // Whether the first request is answered before the close forgets it is a matter of time.
  const auto has = [&](SeqId seq_id, auto matches) {
    return std::any_of(answers[seq_id].begin(), answers[seq_id].end(), matches);
  };
  EXPECT_TRUE(has(1, [](const auto& r) { return absl::StrContains(r.error, "tokens[0]: 71"); }));
  EXPECT_TRUE(has(1, [](const auto& r) { return r.gap && r.have == 0; }));
  EXPECT_TRUE(has(2, [](const auto& r) { return absl::StrContains(r.error, "tokens: has 8193"); }));
  EXPECT_EQ(answers[3][0].routes, Expected(SomeTokens(4, 1)));
}

TEST(RouteServiceTest, TheLinkSeesARouterDieAndComesBackToItsSuccessor) {
  const Address address = SocketAddress("successor");
  auto server = std::make_unique<Server>(address, 1);
  Client client(address);
  EXPECT_EQ(client.NextHello().boot_id, 1u);
  client.Send(RouteRequest{.seq_id = 1, .tokens = SomeTokens(20, 0)});
  EXPECT_EQ(client.NextResponse().routes.size(), 20u);

  server.reset();
  EXPECT_NE(client.NextDown(), "");
  client.Send(RouteRequest{.seq_id = 1, .base = 20, .tokens = {1}});  // lost: the link is down

  server = std::make_unique<Server>(address, 2);
  EXPECT_EQ(client.NextHello().boot_id, 2u);
  client.Send(RouteRequest{.seq_id = 1, .base = 20, .tokens = {1}});
  const RouteResponse gap = client.NextResponse();
  EXPECT_TRUE(gap.gap);
  EXPECT_EQ(gap.have, 0);
}

TEST(RouteServiceTest, AMessageOfNoKindEndsItsStreamOnly) {
  Server server({.host = "127.0.0.1"});
  Client bystander(server.rpc->bound());
  bystander.NextHello();
  const absl::Status status = RawClient(server.rpc->bound()).SendAndFinish({});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("message is not set"));
  bystander.Send(RouteRequest{.seq_id = 1, .tokens = {1, 2}});
  EXPECT_EQ(bystander.NextResponse().routes.size(), 2u);
}

TEST(RouteServiceTest, AMessageBeyondTheLimitEndsItsStream) {
  Server server({.host = "127.0.0.1"});
  v1::RouteRequest huge;
  huge.mutable_tokens()->mutable_tokens()->Resize(kRouteMessageBytesMax, 1);
  const absl::Status status = RawClient(server.rpc->bound()).SendAndFinish(huge);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(RouteServiceTest, RefusesStreamsBeyondTheBoundAndTakesThemLater) {
  Server server({.host = "127.0.0.1"}, 1, 1);
  auto first = std::make_unique<Client>(server.rpc->bound());
  first->NextHello();
  RawClient second(server.rpc->bound());
  const absl::Status status = second.SendAndFinish({});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "streams: 1 are open, the limit is 1");
  first.reset();
  Client third(server.rpc->bound());  // dials until the first stream's end has been seen
  third.NextHello();
  third.Send(RouteRequest{.seq_id = 1, .tokens = {1}});
  EXPECT_EQ(third.NextResponse().routes.size(), 1u);
}

TEST(RouteServiceTest, AConnectionThatResetsItsCallsIsCut) {
  Server server({.host = "127.0.0.1"});
  EXPECT_TRUE(testing::CutsRapidResets(server.rpc->bound(), "/pregate.v1.Router/Route"));
  Client client(server.rpc->bound());
  client.NextHello();
}

TEST(RouteServiceTest, DrainingEndsStreamsAsUnavailable) {
  Server server({.host = "127.0.0.1"});
  Client client(server.rpc->bound());
  client.NextHello();
  server.service->Drain();
  EXPECT_THAT(client.NextDown(), HasSubstr("the router is stopping"));
  EXPECT_EQ(RawClient(server.rpc->bound()).SendAndFinish({}).code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace pregate
