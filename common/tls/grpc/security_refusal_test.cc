// Peers that must not get in, on a real server: each is refused, and both ends say why where they
// can know.
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/health_client.h"
#include "common/tls/grpc/testing/tls_peers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using testing::TestAuthority;
using testing::TlsPeer;

constexpr absl::Duration kAnswer = absl::Seconds(10);

class SecurityRefusalTest : public ::testing::Test {
 protected:
  // What a client with `pem` and nothing else gets from `server`; no check of its own stops it.
  absl::Status DialRaw(const RpcServer& server, const TlsPem& pem) {
    grpc::SslCredentialsOptions options{authority_.pem(), pem.key, pem.certificate};
    grpc::ChannelArguments args;
    args.SetSslTargetNameOverride("localhost");
    const auto channel =
        grpc::CreateCustomChannel(server.bound().ToString(), grpc::SslCredentials(options), args);
    return IsServing(channel, kAnswer).status();
  }
  absl::Status Dial(const RpcServer& server, const TlsPeer& client, RoleSet expected) {
    return IsServing(MakeChannel(server.bound(), 1 << 20, client.security(), expected), kAnswer)
        .status();
  }
  // A server that shows `pem`, which its own start would refuse.
  std::unique_ptr<grpc::Server> ServeRaw(const TlsPem& pem, int* port) {
    grpc::SslServerCredentialsOptions options(
        GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
    options.pem_root_certs = pem.authority;
    options.pem_key_cert_pairs = {{pem.key, pem.certificate}};
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), port);
    for (grpc::Service* service : service_.services()) builder.RegisterService(service);
    return builder.BuildAndStart();
  }

  const TestAuthority authority_, other_;
  const TlsPeer host_{authority_.Issue(Role::kScheduler)};
  testing::EveryService service_;
};

// What a port does not serve costs it a handshake at most, not a call.
TEST_F(SecurityRefusalTest, APortShakesHandsWithTheRolesThatItServesOnly) {
  const TlsPeer host(authority_.Issue(Role::kRouter));
  auto server = RpcServer::Start({.listen = {.host = "127.0.0.1"},
                                  .message_bytes_max = kServiceMessageBytesMax,
                                  .security = &host.security(),
                                  .service = "pregate.v1.Router"},
                                 service_.services(), [] { return true; });
  ASSERT_TRUE(server.ok()) << server.status();
  for (const Role role : AllRoles()) {
    const absl::Status status = DialRaw(**server, authority_.Issue(role));
    const bool is_served = RoleSet{Role::kScheduler, Role::kRouter, Role::kOperator}.Has(role);
    EXPECT_EQ(status.ok(), is_served) << RoleName(role) << ": " << status;
    if (is_served) continue;
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_TRUE(host.Logged(absl::StrCat("wrong role: the peer is ", RoleName(role)), kAnswer));
  }
}

TEST_F(SecurityRefusalTest, AServerRefusesBadClientsAndLogsWhy) {
  const auto server = testing::Serve(service_, host_);
  const struct {
    const char* what;
    TlsPem pem;
    const char* why;
  } kCases[] = {
      {"expired",
       authority_.Issue(Role::kClient,
                        [](auto& r) { r.not_after = absl::Now() - absl::Seconds(1); }),
       "certificate has expired on 2"},
      {"not yet valid",
       authority_.Issue(Role::kClient,
                        [](auto& r) { r.not_before = absl::Now() + absl::Minutes(9); }),
       "certificate is not yet valid before 2"},
      {"another authority", other_.Issue(Role::kClient), "unable to get local issuer certificate"},
      {"another trust domain",
       authority_.Issue(Role::kClient,
                        [](auto& r) { r.uris = {"spiffe://evil.internal/pregate/client"}; }),
       "wrong trust domain, 'pregate.internal' is trusted"},
      {"no role of ours",
       authority_.Issue(Role::kClient,
                        [](auto& r) { r.uris = {"spiffe://pregate.internal/pregate/admin"}; }),
       "unknown role"},
      {"no URI", authority_.Issue(Role::kClient, [](auto& r) { r.uris.clear(); }),
       "has no URI name"},
      {"two URIs",
       authority_.Issue(
           Role::kClient,
           [](auto& r) { r.uris.push_back("spiffe://pregate.internal/pregate/operator"); }),
       "has 2 URI names"},
      {"for servers only",
       authority_.Issue(Role::kClient, [](auto& r) { r.extended_key_usage = "serverAuth"; }),
       "unsuitable certificate purpose"},
  };
  for (const auto& c : kCases) {
    EXPECT_EQ(DialRaw(*server, c.pem).code(), absl::StatusCode::kUnavailable) << c.what;
    EXPECT_TRUE(host_.Logged(c.why)) << c.what << "\n" << host_.Lines();
  }
  // The same client with a good certificate gets in.
  EXPECT_EQ(DialRaw(*server, authority_.Issue(Role::kClient)), absl::OkStatus());
}

// OpenSSL refuses these itself; its reason is in gRPC's log, which GrpcLog takes.
TEST_F(SecurityRefusalTest, NoCertificateAndPlaintextAreRefusedAndLogged) {
  std::vector<std::string> lines;
  absl::Mutex mutex;
  const Log log("test", {}, [&](absl::string_view line) {
    absl::MutexLock lock(&mutex);
    lines.emplace_back(line);
  });
  const auto logged = [&](const char* text) {
    const auto has = [&] {
      return std::any_of(lines.begin(), lines.end(),
                         [&](const auto& line) { return line.find(text) != std::string::npos; });
    };
    absl::MutexLock lock(&mutex);
    return mutex.AwaitWithTimeout(absl::Condition(&has), absl::Seconds(10));
  };
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  const auto server = testing::Serve(service_, host_);
  EXPECT_EQ(DialRaw(*server, {"", "", ""}).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(logged("peer did not return a certificate"));
  const auto plaintext = MakeChannel(server->bound(), 1 << 20);
  EXPECT_EQ(IsServing(plaintext, kAnswer).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(logged("wrong version number"));
  // And a client of ours that comes to a plaintext server.
  const auto open =
      *RpcServer::Start({.listen = {.host = "127.0.0.1"}, .message_bytes_max = 1 << 20},
                        service_.services(), [] { return true; });
  EXPECT_EQ(Dial(*open, host_, {Role::kScheduler}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(SecurityRefusalTest, AChannelRefusesAServerOfAnotherRole) {
  const TlsPeer router(authority_.Issue(Role::kRouter));
  const auto server = testing::Serve(service_, router);
  const TlsPeer scheduler(authority_.Issue(Role::kScheduler));
  const absl::Status status = Dial(*server, scheduler, {Role::kWorker});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("wrong role: the peer is router, not worker"));
  EXPECT_TRUE(scheduler.Logged("wrong role: the peer is router, not worker"));
  EXPECT_EQ(Dial(*server, scheduler, {Role::kWorker, Role::kRouter}), absl::OkStatus());
}

TEST_F(SecurityRefusalTest, AChannelRefusesBadServersAndSaysWhy) {
  const TlsPeer scheduler(authority_.Issue(Role::kScheduler));
  const struct {
    const char* what;
    TlsPem pem;
    const char* why;
  } kCases[] = {
      {"expired",
       authority_.Issue(Role::kRouter,
                        [](auto& r) { r.not_after = absl::Now() - absl::Seconds(1); }),
       "certificate has expired on 2"},
      // Such a server sends its authority along.
      {"another authority", other_.Issue(Role::kRouter), "self-signed certificate in certificate"},
      {"another trust domain",
       authority_.Issue(Role::kRouter,
                        [](auto& r) { r.uris = {"spiffe://evil.internal/pregate/router"}; }),
       "wrong trust domain"},
      {"no URI, but the host's name",
       authority_.Issue(Role::kRouter, [](auto& r) { r.uris.clear(); }), "has no URI name"},
      {"for clients only",
       authority_.Issue(Role::kRouter, [](auto& r) { r.extended_key_usage = "clientAuth"; }),
       "unsuitable certificate purpose"},
  };
  for (const auto& c : kCases) {
    int port = 0;
    const auto server = ServeRaw(c.pem, &port);
    ASSERT_NE(server, nullptr);
    const auto channel = MakeChannel({.host = "127.0.0.1", .port = port}, 1 << 20,
                                     scheduler.security(), {Role::kRouter});
    const absl::Status status = IsServing(channel, kAnswer).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << c.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.why)) << c.what;
    EXPECT_TRUE(scheduler.Logged(c.why)) << c.what;
  }
}

TEST(SecurityTest, PlaintextStaysOnThisMachineAndTlsGoesAnywhere) {
  const auto plaintext = *Security::Load({}, {}, nullptr, nullptr);
  EXPECT_FALSE(plaintext->encrypted());
  EXPECT_EQ(plaintext->gate(), nullptr);
  const absl::Status status = plaintext->ParseAddress("router", "10.0.0.1:7610").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("--router"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--tls-dir"));
  EXPECT_TRUE(plaintext->ParseAddress("router", "unix:/a").ok());
  const TestAuthority authority;
  const TlsPeer peer(authority.Issue(Role::kRouter));
  EXPECT_TRUE(peer.security().encrypted());
  EXPECT_TRUE(peer.security().ParseAddress("router", "router.pregate:7610").ok());
  EXPECT_FALSE(peer.security().ParseAddress("router", "dns:///router:7610").ok());
}

TEST(SecurityTest, AProgramRefusesTheCertificateOfAnotherRole) {
  const TestAuthority authority;
  const TlsPeer worker(authority.Issue(Role::kWorker));
  const Log log("test", {.level = "error"});
  SystemClock clock;
  const auto security = Security::Load({.dir = worker.dir()}, {Role::kRouter}, &log, &clock);
  ASSERT_FALSE(security.ok());
  EXPECT_THAT(std::string(security.status().message()),
              HasSubstr("wrong role worker, this program needs a certificate of router"));
  EXPECT_THAT(std::string(security.status().message()), HasSubstr("--tls-dir"));
}

}  // namespace
}  // namespace pregate
