// ExpertWorker.Meet end to end: client, gRPC on loopback, service, table; and Gloo over it.
#include <grpcpp/client_context.h>

#include <future>
#include <thread>

#include "common/base/limits.h"
#include "common/collective/gloo/gloo_factory.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "expert_service/edge/attach_service.h"
#include "expert_service/edge/meet_client.h"
#include "expert_service/edge/meet_messages.h"
#include "expert_service/edge/worker_collectives.h"
#include "expert_service/edge/worker_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using Blobs = absl::StatusOr<std::vector<std::string>>;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(20);
const char kToken[] = "0123456789abcdef0123456789abcdef";

class MeetTest : public testing::Test {
 protected:
  MeetTest() {
    auto server = RpcServer::Start(
        {.listen = *ParseAddress("127.0.0.1:0"), .message_bytes_max = kServiceMessageBytesMax},
        {&service_}, [] { return true; });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = std::make_unique<MeetClient>(table_, server_->bound(), plaintext_.get());
  }
  std::future<Blobs> Meet(const std::string& rendezvous, int rank, int world_size,
                          const std::string& blob, absl::Duration timeout = kLong) {
    return std::async(std::launch::async, [=, this] {
      return client_->Meet(rendezvous, rank, world_size, blob, timeout, {});
    });
  }
  absl::StatusCode CodeOf(std::future<Blobs> blobs) { return blobs.get().status().code(); }

  std::shared_ptr<RendezvousTable> table_ = std::make_shared<RendezvousTable>(MeetLimits());
  MeetService meet_{table_};
  AttachService service_{nullptr, &meet_};
  const std::unique_ptr<Security> plaintext_ = *Security::Load({}, {}, nullptr, nullptr);
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<MeetClient> client_;
};

TEST_F(MeetTest, EveryRankGetsAllBlobs) {
  const std::string rendezvous = *client_->MakeRendezvous();
  auto two = Meet(rendezvous, 2, 3, std::string("\0\xff", 2));
  auto zero = Meet(rendezvous, 0, 3, "a");
  auto one = Meet(rendezvous, 1, 3, "");
  const Blobs blobs = zero.get();
  ASSERT_TRUE(blobs.ok()) << blobs.status();
  EXPECT_THAT(*blobs, ElementsAre("a", "", std::string("\0\xff", 2)));
  EXPECT_EQ(one.get(), blobs);
  EXPECT_EQ(two.get(), blobs);
  EXPECT_EQ(CodeOf(Meet(rendezvous, 0, 3, "late")), absl::StatusCode::kNotFound);
}

TEST_F(MeetTest, TheFirstDeadlineEndsTheMeetingForAllAndNamesTheMissing) {
  const std::string rendezvous = *client_->MakeRendezvous();
  auto waits = Meet(rendezvous, 0, 4, "a");
  const Blobs hurries = Meet(rendezvous, 2, 4, "c", absl::Milliseconds(100)).get();
  EXPECT_EQ(hurries.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(hurries.status().message(), HasSubstr("1, 3"));
  const absl::StatusCode other = CodeOf(std::move(waits));
  EXPECT_TRUE(other == absl::StatusCode::kDeadlineExceeded || other == absl::StatusCode::kNotFound);
}

TEST_F(MeetTest, RefusesWhatIsOutOfBounds) {
  const std::string rendezvous = *client_->MakeRendezvous();
  EXPECT_EQ(CodeOf(Meet(rendezvous, 0, kWorkersMax + 1, "")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Meet(rendezvous, 2, 2, "")), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Meet(rendezvous, 0, 2, std::string(kMeetBlobBytesMax + 1, 'x'))),
            absl::StatusCode::kInvalidArgument);
  const std::string unknown = MeetRendezvous{server_->bound(), kToken}.ToString();
  EXPECT_EQ(CodeOf(Meet(unknown, 0, 1, "")), absl::StatusCode::kNotFound);
  EXPECT_EQ(CodeOf(Meet(rendezvous, 0, 1, std::string(kMeetBlobBytesMax, 'x'))),
            absl::StatusCode::kOk);
}

TEST_F(MeetTest, RefusesATimeoutOutOfRange) {
  const auto stub = v1::ExpertWorker::NewStub(MakeChannel(server_->bound(), 1 << 20));
  for (const int32_t timeout_ms : {-1, 0, kMeetTimeoutMsMax + 1}) {
    v1::MeetRequest request;
    request.set_token(table_->Open());
    request.set_world_size(1);
    request.set_timeout_ms(timeout_ms);
    v1::MeetResponse response;
    grpc::ClientContext context;
    EXPECT_EQ(stub->Meet(&context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
}

TEST_F(MeetTest, ARankThatDiesEndsTheMeeting) {
  const std::string token = table_->Open();
  std::promise<Blobs> zero;
  table_->Enter(token, 0, 3, "a", [&](Blobs blobs) { zero.set_value(std::move(blobs)); });
  const auto stub = v1::ExpertWorker::NewStub(MakeChannel(server_->bound(), 1 << 20));
  v1::MeetRequest request;
  request.set_token(token);
  request.set_rank(1);
  request.set_world_size(3);
  request.set_timeout_ms(kMeetTimeoutMsMax);
  v1::MeetResponse response;
  grpc::ClientContext context;
  std::promise<void> ended;
  stub->async()->Meet(&context, &request, &response, [&](grpc::Status) { ended.set_value(); });
  // Rank 1 is there once another one of that rank is refused for it, not for its blob.
  absl::StatusCode probe = absl::StatusCode::kOk;
  while (probe != absl::StatusCode::kAlreadyExists) {
    table_->Enter(token, 1, 3, std::string(kMeetBlobBytesMax + 1, 'x'),
                  [&](const Blobs& blobs) { probe = blobs.status().code(); });
    std::this_thread::yield();
  }
  context.TryCancel();
  const absl::Status why = zero.get_future().get().status();
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(why.message(), HasSubstr("did not come: 2"));
  ended.get_future().wait();
}

TEST_F(MeetTest, ShutdownEndsWhoWaits) {
  auto waits = Meet(*client_->MakeRendezvous(), 0, 2, "a", absl::Seconds(1));
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_FALSE(waits.get().ok());
}

TEST_F(MeetTest, ASilentHostIsADeadline) {
  const std::string rendezvous = *client_->MakeRendezvous();
  server_->Shutdown(absl::ZeroDuration());
  EXPECT_EQ(CodeOf(Meet(rendezvous, 0, 2, "a", absl::Milliseconds(10))),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(MeetTest, GlooGroupsFormOverIt) {
  auto factory = MakeGlooFactory({}, client_.get());
  ASSERT_TRUE(factory.ok()) << factory.status();
  const auto rendezvous = (*factory)->MakeRendezvous();
  ASSERT_TRUE(rendezvous.ok());
  const auto run = [&](int rank) {
    auto group = (*factory)->Join(*rendezvous, rank, 2, kLong, {});
    EXPECT_TRUE(group.ok()) << group.status();
    std::vector<int32_t> all(2);
    const int32_t mine = 40 + rank;
    EXPECT_EQ((*group)->AllGather(&mine, sizeof(mine), all.data()), absl::OkStatus());
    EXPECT_THAT(all, ElementsAre(40, 41));
    return *std::move(group);
  };
  auto other = std::async(std::launch::async, run, 1);
  const auto group = run(0);
  other.wait();
}

TEST(MeetRendezvousTest, ParsesWhatItPrints) {
  for (const std::string host : {"127.0.0.1:7620", "[::1]:1", "localhost:65535", "unix:/a/b"}) {
    const auto parsed = ParseMeetRendezvous(host + "/" + kToken, /*encrypted=*/false);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(parsed->host.ToString(), host);
    EXPECT_EQ(parsed->token, kToken);
    EXPECT_EQ(parsed->ToString(), host + "/" + kToken);
  }
}

TEST(MeetRendezvousTest, RefusesHostileText) {
  const std::string token = std::string("/") + kToken;
  for (const std::string& text :
       {std::string(), std::string("/"), token, "127.0.0.1:7620" + token.substr(1),
        "127.0.0.1:7620/" + token.substr(2), "127.0.0.1:7620" + token + "0",
        std::string("127.0.0.1:7620/0123456789ABCDEF0123456789abcdef"), "127.0.0.1" + token,
        "127.0.0.1:0" + token, "127.0.0.1:65536" + token, "10.0.0.1:7620" + token,
        "example.org:7620" + token, "dns:///x:1" + token, "127.0.0.1:7620" + token + "\n",
        std::string(kRendezvousBytesMax, '1') + ":1" + token, std::string(1 << 20, '/')}) {
    EXPECT_EQ(ParseMeetRendezvous(text, /*encrypted=*/false).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text.substr(0, 80);
  }
}

TEST(MeetRendezvousTest, OtherMachinesAreForTlsOnly) {
  for (const std::string host : {"10.0.0.1:7620", "worker-0.workers:7620", "[2001:db8::1]:1"}) {
    const std::string text = host + "/" + kToken;
    EXPECT_FALSE(ParseMeetRendezvous(text, /*encrypted=*/false).ok()) << text;
    EXPECT_TRUE(ParseMeetRendezvous(text, /*encrypted=*/true).ok()) << text;
  }
  for (const std::string host : {"0.0.0.0:7620", "[::]:7620", "dns:///x:1", "10.0.0.1:0"}) {
    EXPECT_FALSE(ParseMeetRendezvous(host + "/" + kToken, /*encrypted=*/true).ok()) << host;
  }
}

TEST(WorkerCollectivesTest, AWildcardIsMetAtTheCollectiveHost) {
  const auto plaintext = *Security::Load({}, {}, nullptr, nullptr);
  for (const char* listen : {"0.0.0.0:7620", "[::]:7620"}) {
    WorkerCollectives collectives("10.1.2.3", plaintext.get());
    EXPECT_EQ(collectives.MakeRendezvous().status().code(), absl::StatusCode::kUnavailable);
    collectives.Open(*ParseAddress(listen));
    EXPECT_THAT(*collectives.MakeRendezvous(), testing::StartsWith("10.1.2.3:7620/"));
  }
  WorkerCollectives named("10.1.2.3", plaintext.get());
  named.Open(*ParseAddress("127.0.0.1:1"));
  EXPECT_THAT(*named.MakeRendezvous(), testing::StartsWith("127.0.0.1:1/"));
}

TEST(CollectiveHostTest, BeyondLoopbackItWantsToBeToldThatItIsInsecure) {
  for (const char* host : {"127.0.0.1", "::1", "localhost"}) {
    EXPECT_TRUE(CheckCollectiveHost({.collective_host = host}).ok()) << host;
  }
  for (const char* host : {"10.0.0.1", "worker-0.workers", "2001:db8::1"}) {
    const absl::Status status = CheckCollectiveHost({.collective_host = host});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << host;
    EXPECT_THAT(status.message(), HasSubstr("--collective-host"));
    EXPECT_THAT(status.message(), HasSubstr("--collective-insecure"));
    EXPECT_TRUE(CheckCollectiveHost({.collective_host = host, .collective_insecure = true}).ok());
  }
  for (const char* host : {"", "0.0.0.0", "::", "a b", "a:1"}) {
    EXPECT_FALSE(CheckCollectiveHost({.collective_host = host, .collective_insecure = true}).ok())
        << host;
  }
}

}  // namespace
}  // namespace pregate
