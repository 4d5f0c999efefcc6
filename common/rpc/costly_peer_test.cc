// Peers that would use up a port: descriptors, connections, calls that they reset at once. The port
// goes on serving others.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/base/files.h"
#include "common/base/limits.h"
#include "common/http/testing/raw_socket.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/rpc/reset_counter.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/testing/rapid_resets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using testing::RawSocket;

constexpr absl::Duration kAnswer = absl::Seconds(10);

class CostlyPeerTest : public ::testing::Test {
 protected:
  std::unique_ptr<RpcServer> Start(RpcServerOptions options = {},
                                   const std::vector<grpc::Service*>& services = {}) {
    options.listen = {.host = "127.0.0.1"};
    options.message_bytes_max = kClientMessageBytesMax;
    options.log = &log_;
    auto server = RpcServer::Start(options, services, [] { return true; });
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
  // Over a new connection.
  absl::Status Ask(const RpcServer& server, absl::Duration timeout = kAnswer) {
    return IsServing(MakeChannel(server.bound(), kClientMessageBytesMax), timeout).status();
  }
  bool Logged(const std::string& text) {
    absl::MutexLock lock(&mutex_);
    return lines_.find(text) != std::string::npos;
  }

  absl::Mutex mutex_;
  std::string lines_ ABSL_GUARDED_BY(mutex_);
  const Log log_{"test", {}, [this](absl::string_view line) {
                   absl::MutexLock lock(&mutex_);
                   absl::StrAppend(&lines_, line);
                 }};
};

TEST_F(CostlyPeerTest, SilentConnectionsMakeRoomForOthers) {
  const auto server = Start({.connections_max = 20});
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (int i = 0; i < 200; ++i) {
    silent.push_back(std::make_unique<RawSocket>(server->bound()));
    if (i % 20 == 0) {
      EXPECT_EQ(Ask(*server), absl::OkStatus()) << i;
    }
  }
  EXPECT_EQ(Ask(*server), absl::OkStatus());
  EXPECT_EQ(silent[0]->ReadAll().find("HTTP"), std::string::npos);  // cut: an end, no answer
}

TEST_F(CostlyPeerTest, AConnectionThatStandsOutlivesAFlood) {
  const auto server = Start({.connections_max = 20});
  const auto channel = MakeChannel(server->bound(), kClientMessageBytesMax);
  ASSERT_EQ(IsServing(channel, kAnswer).status(), absl::OkStatus());
  absl::SleepFor(absl::Milliseconds(kHandshakeTimeoutMs + 200));  // it counts as one that stands
  std::vector<std::unique_ptr<RawSocket>> silent;
  for (int i = 0; i < 200; ++i) silent.push_back(std::make_unique<RawSocket>(server->bound()));
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_EQ(IsServing(channel, kAnswer).status(), absl::OkStatus());
}

// gRPC 1.51's own listener would accept nothing any more, for good.
TEST_F(CostlyPeerTest, NoDescriptorsForAWhileIsSurvived) {
  const auto server = Start();
  sockaddr_in to = {.sin_family = AF_INET,
                    .sin_port = htons(static_cast<uint16_t>(server->bound().port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  {
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 50; ++i)
      clients.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    rlimit none = before;
    none.rlim_cur = 3;  // of those that are open, none is lost
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    for (const UniqueFd& client : clients) {
      EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
    }
    absl::SleepFor(absl::Milliseconds(200));  // accept fails meanwhile
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  }
  EXPECT_EQ(Ask(*server), absl::OkStatus());
}

// However fast the server works them off: twice the rate that is given back, or a thousand times.
TEST(ResetAllowanceTest, CountsCallsNotTheirRate) {
  for (const int per_second : {2 * kConnectionResetsPerSecond, 1000 * kConnectionResetsPerSecond}) {
    ResetAllowance allowance;
    absl::Time now = absl::FromUnixSeconds(1);
    int allowed = 0;
    for (; allowance.Allow(now); ++allowed) now += absl::Seconds(1) / per_second;
    EXPECT_GE(allowed, kConnectionResetsMax);
    EXPECT_LE(allowed, 2 * kConnectionResetsMax + 1);
  }
}

TEST(ResetAllowanceTest, AClientThatOftenGivesUpIsNeverCut) {
  ResetAllowance allowance;
  absl::Time now = absl::FromUnixSeconds(1);
  for (int i = 0; i < 100 * kConnectionResetsMax; ++i) {
    ASSERT_TRUE(allowance.Allow(now)) << i;
    now += absl::Seconds(1) / kConnectionResetsPerSecond;
  }
}

// As many as may be open and then as many as may be cancelled, however late ends are told.
TEST(ResetAllowanceTest, CallsThatBeginAndDoNotEndWereCancelled) {
  ResetAllowance allowance;
  constexpr int kBegun = kClientStreamsMax + kConnectionResetsMax;
  for (int i = 0; i < kBegun; ++i) ASSERT_TRUE(allowance.Begin()) << i;
  EXPECT_FALSE(allowance.Begin());
  const absl::Time now = absl::FromUnixSeconds(1);
  for (int i = 0; i <= kBegun; ++i) ASSERT_TRUE(allowance.End(/*cancelled=*/false, now)) << i;
  for (int i = 0; i < kConnectionResetsMax; ++i) {
    ASSERT_TRUE(allowance.Begin() && allowance.End(/*cancelled=*/true, now)) << i;
  }
  EXPECT_TRUE(allowance.Begin());
  EXPECT_FALSE(allowance.End(/*cancelled=*/true, now));
}

TEST_F(CostlyPeerTest, AConnectionThatResetsItsCallsIsCutAndOthersAreNot) {
  const auto server = Start();
  const auto other = MakeChannel(server->bound(), kClientMessageBytesMax);
  ASSERT_EQ(IsServing(other, kAnswer).status(), absl::OkStatus());
  for (const char* path : {"/grpc.health.v1.Health/Watch", "/no.Such/Method"}) {
    EXPECT_TRUE(testing::CutsRapidResets(server->bound(), path)) << path;
    EXPECT_EQ(IsServing(other, kAnswer).status(), absl::OkStatus());
  }
  EXPECT_TRUE(Logged("connection cut"));
  EXPECT_TRUE(Logged(absl::StrCat(kConnectionResetsMax, " calls cancelled")));
}

// Tells of its calls itself, so that no interceptor sees them.
class SelfToldService final
    : public v1::Inference::WithRawCallbackMethod_Generate<v1::Inference::Service> {
 public:
  static constexpr char kMethod[] = "/pregate.v1.Inference/Generate";

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer*) override {
    class Stream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
     public:
      Stream(SelfToldService* service, grpc::CallbackServerContext* context)
          : service_(*service), tell_end_(service->self_told.Begin(*context)) {}

     private:
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override {
        tell_end_();
        ++service_.num_ended;
        delete this;
      }
      SelfToldService& service_;
      const std::function<void()> tell_end_;
    };
    return new Stream(this, context);
  }

  SelfToldCalls self_told{{kMethod}};
  std::atomic<int> num_ended{0};
};

TEST_F(CostlyPeerTest, CallsThatTheirServiceTellsOfAreCountedOnce) {
  SelfToldService service;
  const auto server = Start({.self_told = &service.self_told}, {&service});
  constexpr int kAllowed = kConnectionResetsMax - 100;
  {
    RawSocket peer(server->bound());
    ASSERT_TRUE(peer.Write(testing::Http2Opening()));
    ASSERT_TRUE(peer.Pour(testing::RapidResets(SelfToldService::kMethod, 0, kAllowed)));
    const absl::Time end = absl::Now() + absl::Minutes(1);
    while (service.num_ended < kAllowed && absl::Now() < end) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_EQ(service.num_ended, kAllowed);
    EXPECT_FALSE(Logged("connection cut"));
  }
  EXPECT_TRUE(testing::CutsRapidResets(server->bound(), SelfToldService::kMethod));
  EXPECT_EQ(Ask(*server), absl::OkStatus());
  EXPECT_TRUE(Logged("connection cut"));
}

// Ends the listening socket of the process under its owner.
void BreakListener() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0) {
      shutdown(fd, SHUT_RDWR);
    }
  }
}

TEST_F(CostlyPeerTest, AServerNoticesThatItCannotBeReached) {
  absl::Notification noticed;
  const auto server =
      Start({.on_unreachable =
                 [&](const absl::Status& why) {
                   EXPECT_TRUE(absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why)) << why;
                   noticed.Notify();
                 },
             .probe_interval = absl::Milliseconds(10)});
  EXPECT_FALSE(noticed.WaitForNotificationWithTimeout(absl::Milliseconds(500)));
  BreakListener();
  EXPECT_TRUE(noticed.WaitForNotificationWithTimeout(absl::Seconds(60)));
}

}  // namespace
}  // namespace pregate
