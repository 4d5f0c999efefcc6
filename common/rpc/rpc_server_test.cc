#include "common/rpc/rpc_server.h"

#include <grpcpp/client_context.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/rpc/status.h"
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

std::string SocketPath(const char* name) {
  return absl::StrCat("/tmp/pregate-", getpid(), "-", name);
}

class RpcServerTest : public ::testing::TestWithParam<Address> {
 protected:
  absl::StatusOr<std::unique_ptr<RpcServer>> Start(const Address& listen) {
    return RpcServer::Start({.listen = listen, .message_bytes_max = kClientMessageBytesMax}, {},
                            [this] { return ready_.load(); });
  }
  std::atomic<bool> ready_{true}, live_{true};
};

INSTANTIATE_TEST_SUITE_P(Addresses, RpcServerTest,
                         ::testing::Values(Address{.host = "127.0.0.1"}, Address{.host = "::1"},
                                           Address{.path = SocketPath("health")}));

TEST_P(RpcServerTest, HealthFollowsReadinessAndDrain) {
  if (GetParam().host == "::1" && access("/proc/net/if_inet6", F_OK) != 0)
    GTEST_SKIP() << "no IPv6";
  const auto server = Start(GetParam());
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = MakeChannel((*server)->bound(), kClientMessageBytesMax);
  EXPECT_TRUE(AwaitServing(channel, true, absl::Seconds(10)));
  ready_ = false;
  const absl::Time changed = absl::Now();
  EXPECT_TRUE(AwaitServing(channel, false, absl::Seconds(10)));
  EXPECT_LT(absl::Now() - changed, absl::Seconds(1));
  ready_ = true;
  EXPECT_TRUE(AwaitServing(channel, true, absl::Seconds(10)));
  (*server)->MarkDraining();
  EXPECT_TRUE(AwaitServing(channel, false, absl::Seconds(10)));
}

// Sockets of this process whose writes wait.
int NumCorked() {
  int found = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    int corked = 0;
    socklen_t size = sizeof(corked);
    if (getsockopt(fd, IPPROTO_TCP, TCP_CORK, &corked, &size) == 0 && corked != 0) ++found;
  }
  return found;
}

TEST_F(RpcServerTest, WritesAreHeldWhereThereAreManyForAConnection) {
  const auto server = Start({.host = "127.0.0.1"});
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = MakeChannel((*server)->bound(), kClientMessageBytesMax);
  EXPECT_TRUE(AwaitServing(channel, true, absl::Seconds(10)));
  (*server)->HoldWrites(1);
  EXPECT_EQ(NumCorked(), 0);
  (*server)->HoldWrites(1000);
  EXPECT_GT(NumCorked(), 0);
  (*server)->ReleaseWrites();
  EXPECT_EQ(NumCorked(), 0);
  EXPECT_TRUE(*IsServing(channel, absl::Seconds(10)));
}

TEST_F(RpcServerTest, LivenessIsApartFromReadiness) {
  ready_ = false;
  const auto server = RpcServer::Start({.listen = {.host = "127.0.0.1"},
                                        .message_bytes_max = kClientMessageBytesMax,
                                        .live = [this] { return live_.load(); }},
                                       {}, [this] { return ready_.load(); });
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel = MakeChannel((*server)->bound(), kClientMessageBytesMax);
  const auto becomes = [&channel](bool live) {
    const absl::Time deadline = absl::Now() + absl::Seconds(10);
    while (absl::Now() < deadline) {
      const auto answer = IsServing(channel, absl::Seconds(10), kLiveService);
      if (answer.ok() && *answer == live) return true;
      absl::SleepFor(absl::Milliseconds(kHealthPollMs));
    }
    return false;
  };
  EXPECT_TRUE(becomes(true));
  EXPECT_FALSE(*IsServing(channel, absl::Seconds(10)));
  (*server)->MarkDraining();
  EXPECT_TRUE(becomes(true));
  live_ = false;
  EXPECT_TRUE(becomes(false));
}

// How many messages a watcher of `service` gets in a second.
int CountWatched(const RpcServer& server, const std::string& service) {
  const auto stub =
      grpc::health::v1::Health::NewStub(MakeChannel(server.bound(), kClientMessageBytesMax));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(1)));
  context.set_wait_for_ready(true);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(service);
  const auto reader = stub->Watch(&context, request);
  grpc::health::v1::HealthCheckResponse response;
  int count = 0;
  while (reader->Read(&response)) ++count;
  reader->Finish();
  return count;
}

TEST_F(RpcServerTest, WatchersHearOfChangesOnly) {
  const auto server = Start({.host = "127.0.0.1"});
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_TRUE(AwaitServing(MakeChannel((*server)->bound(), kClientMessageBytesMax), true,
                           absl::Seconds(10)));
  EXPECT_EQ(CountWatched(**server, ""), 1);
  EXPECT_EQ(CountWatched(**server, kLiveService), 1);
}

TEST_F(RpcServerTest, ReportsATakenPort) {
  const auto first = Start({.host = "127.0.0.1"});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT((*first)->bound().port, 0);
  const auto second = Start((*first)->bound());
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr((*first)->bound().ToString()));
}

TEST_F(RpcServerTest, TwoServersOfOneProcessHaveTheirOwnHealth) {
  const auto ready = Start({.host = "127.0.0.1"});
  const auto unready = RpcServer::Start(
      {.listen = {.host = "127.0.0.1"}, .message_bytes_max = kClientMessageBytesMax}, {},
      [] { return false; });
  ASSERT_TRUE(ready.ok() && unready.ok());
  const auto a = MakeChannel((*ready)->bound(), kClientMessageBytesMax);
  const auto b = MakeChannel((*unready)->bound(), kClientMessageBytesMax);
  EXPECT_TRUE(AwaitServing(a, true, absl::Seconds(10)));
  EXPECT_TRUE(AwaitServing(b, false, absl::Seconds(10)));
}

TEST(StatusTest, CodesAndMessagesComeBackEqual) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(status)), status);
  }
}

}  // namespace
}  // namespace pregate
