// Certificates and authorities change under a server with open streams.
#include <grpcpp/grpcpp.h>

#include <atomic>

#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/tls/certs_dir.h"
#include "common/tls/grpc/testing/tls_peers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::TestAuthority;
using testing::TlsPeer;

constexpr int kStreams = 16;
constexpr absl::Duration kLong = absl::Seconds(30);

class Stream {
 public:
  Stream(const RpcServer& server, const TlsPeer& client)
      : stub_(v1::Router::NewStub(
            MakeChannel(server.bound(), 1 << 20, client.security(), {Role::kRouter}))),
        stream_(stub_->Route(&context_)) {}
  ~Stream() {
    context_.TryCancel();
    stream_->Finish();
  }
  bool Echo() {
    v1::RouteResponse response;
    return stream_->Write(v1::RouteRequest()) && stream_->Read(&response);
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<v1::Router::Stub> stub_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::RouteRequest, v1::RouteResponse>> stream_;
};

// The fingerprint of the certificate that a new connection to `server` is shown.
std::string ShownCertificate(const RpcServer& server, const TlsPeer& client) {
  const auto stub =
      v1::Router::NewStub(MakeChannel(server.bound(), 1 << 20, client.security(), {Role::kRouter}));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(5)));
  const auto stream = stub->Route(&context);
  v1::RouteResponse response;
  std::string shown;
  if (stream->Write(v1::RouteRequest()) && stream->Read(&response)) {
    const auto pem = context.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
    const auto certificates =
        ParseCertificates(absl::string_view(pem.front().data(), pem.front().size()));
    shown = FingerprintOf(certificates->front().get());
  }
  context.TryCancel();
  stream->Finish();
  return shown;
}

std::string Fingerprint(const TlsPem& pem) {
  return FingerprintOf(ParseCertificates(pem.certificate)->front().get());
}

class SecurityRotationTest : public ::testing::Test {
 protected:
  bool Shows(const RpcServer& server, const TlsPeer& client, const TlsPem& pem) {
    const absl::Time end = absl::Now() + kLong;
    while (absl::Now() < end) {
      if (ShownCertificate(server, client) == Fingerprint(pem)) return true;
    }
    return false;
  }

  const TestAuthority authority_;
  testing::EveryService service_;
};

TEST_F(SecurityRotationTest, StreamsGoOnAndNewConnectionsSeeTheNewCertificate) {
  const TlsPem first = authority_.Issue(Role::kRouter), second = authority_.Issue(Role::kRouter);
  const TlsPeer router(first), scheduler(authority_.Issue(Role::kScheduler));
  const auto server = testing::Serve(service_, router);
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < kStreams; ++i)
    streams.push_back(std::make_unique<Stream>(*server, scheduler));
  EXPECT_EQ(ShownCertificate(*server, scheduler), Fingerprint(first));

  std::atomic<bool> done{false};
  std::atomic<int64_t> num_echoes{0}, num_lost{0};
  std::vector<std::thread> talk;
  for (const auto& stream : streams) {
    talk.emplace_back([&, s = stream.get()] {
      while (!done) {
        if (!s->Echo()) return void(++num_lost);
        ++num_echoes;
        absl::SleepFor(absl::Milliseconds(5));
      }
    });
  }
  ASSERT_EQ(WriteTlsDir(router.dir(), second), absl::OkStatus());
  EXPECT_TRUE(Shows(*server, scheduler, second));
  const int64_t before = num_echoes;
  while (num_echoes < before + 10 * kStreams && num_lost == 0)
    absl::SleepFor(absl::Milliseconds(1));
  done = true;
  for (std::thread& t : talk) t.join();
  EXPECT_EQ(num_lost, 0);
  EXPECT_TRUE(router.Logged("tls files changed")) << router.Lines();
}

// The order of docs/SECURITY.md: trust both, then issue from the new one, then drop the old one.
TEST_F(SecurityRotationTest, AnAuthorityIsReplacedThroughABundle) {
  const TestAuthority next;
  TlsPem router_pem = authority_.Issue(Role::kRouter);
  TlsPem scheduler_pem = authority_.Issue(Role::kScheduler);
  const TlsPeer router(router_pem), scheduler(scheduler_pem);
  const auto server = testing::Serve(service_, router);
  Stream stream(*server, scheduler);
  EXPECT_TRUE(stream.Echo());

  const std::string bundle = authority_.pem() + next.pem();
  router_pem.authority = scheduler_pem.authority = bundle;
  ASSERT_EQ(WriteTlsDir(router.dir(), router_pem), absl::OkStatus());
  ASSERT_EQ(WriteTlsDir(scheduler.dir(), scheduler_pem), absl::OkStatus());
  TlsPem new_router = next.Issue(Role::kRouter);
  new_router.authority = bundle;
  ASSERT_EQ(WriteTlsDir(router.dir(), new_router), absl::OkStatus());
  EXPECT_TRUE(Shows(*server, scheduler, new_router)) << scheduler.Lines();
  // The scheduler's certificate is still the old authority's, and passes.
  EXPECT_TRUE(stream.Echo());

  TlsPem new_scheduler = next.Issue(Role::kScheduler);
  ASSERT_EQ(WriteTlsDir(scheduler.dir(), new_scheduler), absl::OkStatus());
  new_router.authority = next.pem();
  ASSERT_EQ(WriteTlsDir(router.dir(), new_router), absl::OkStatus());
  // Now the old authority's certificates are refused, in time.
  const auto dial_old = [&] {
    const TlsPem pem = authority_.Issue(Role::kScheduler);
    const grpc::SslCredentialsOptions options{next.pem(), pem.key, pem.certificate};
    grpc::ChannelArguments args;
    args.SetSslTargetNameOverride("localhost");
    return IsServing(
        grpc::CreateCustomChannel(server->bound().ToString(), grpc::SslCredentials(options), args),
        absl::Seconds(5));
  };
  const absl::Time end = absl::Now() + kLong;
  while (dial_old().ok() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(50));
  EXPECT_FALSE(dial_old().ok());
  EXPECT_TRUE(router.Logged("unable to get local issuer certificate")) << router.Lines();
  EXPECT_TRUE(Shows(*server, scheduler, new_router)) << scheduler.Lines();
  EXPECT_TRUE(stream.Echo());
}

TEST_F(SecurityRotationTest, BrokenFilesLeaveTheServerAsItWas) {
  const TlsPem first = authority_.Issue(Role::kRouter);
  const TlsPeer router(first), scheduler(authority_.Issue(Role::kScheduler));
  const auto server = testing::Serve(service_, router);
  EXPECT_EQ(ShownCertificate(*server, scheduler), Fingerprint(first));
  TlsPem broken = first;
  broken.certificate = "not a certificate\n";
  ASSERT_EQ(WriteTlsDir(router.dir(), broken), absl::OkStatus());
  // Dialled until the change is noticed and logged; then some.
  const absl::Time end = absl::Now() + kLong;
  while (!router.Logged("tls files refused", absl::ZeroDuration()) && absl::Now() < end) {
    ShownCertificate(*server, scheduler);
  }
  EXPECT_TRUE(router.Logged("tls files refused")) << router.Lines();
  absl::SleepFor(absl::Milliseconds(3 * kTlsRefreshMs));
  EXPECT_EQ(ShownCertificate(*server, scheduler), Fingerprint(first));
}

}  // namespace
}  // namespace pregate
