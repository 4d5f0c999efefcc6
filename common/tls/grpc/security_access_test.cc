// Every row of the access table on a real server: who may call passes, everyone else is refused
// before a handler sees the call.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"
#include "common/tls/grpc/testing/tls_peers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using testing::TestAuthority;
using testing::TlsPeer;

// One call with an empty message to any method, by its path.
grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel, const std::string& path) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(20)));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, path, &queue);
  void* tag;
  bool ok;
  call->StartCall(&tag);
  queue.Next(&tag, &ok);
  const grpc::Slice empty("");
  call->WriteLast(grpc::ByteBuffer(&empty, 1), grpc::WriteOptions(), &tag);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, &tag);
    queue.Next(&tag, &ok);
  } while (ok && path != "/grpc.health.v1.Health/Watch");  // which has no end
  if (ok) context.TryCancel();
  grpc::Status status;
  call->Finish(&status, &tag);
  queue.Next(&tag, &ok);
  return status;
}

class SecurityAccessTest : public ::testing::TestWithParam<Address> {
 protected:
  std::shared_ptr<grpc::Channel> Dial(const RpcServer& server, const TlsPeer& client) {
    return MakeChannel(server.bound(), kServiceMessageBytesMax, client.security(),
                       {Role::kScheduler});
  }

  const TestAuthority authority_;
  const TlsPeer host_{authority_.Issue(Role::kScheduler)};
  testing::EveryService service_;
};

INSTANTIATE_TEST_SUITE_P(Addresses, SecurityAccessTest,
                         ::testing::Values(Address{.host = "127.0.0.1"}, Address{.host = "0.0.0.0"},
                                           Address{.path = absl::StrCat("/tmp/pregate-", getpid(),
                                                                        "-access")}));

TEST_P(SecurityAccessTest, RolesMayCallWhatTheTableSaysAndNothingElse) {
  const std::set<Role> all(AllRoles().begin(), AllRoles().end());
  const std::map<std::string, std::set<Role>> kExpected = {
      {"/pregate.v1.Inference/Generate", {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Inference/Tokenize", {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Router/Route", {Role::kScheduler}},
      {"/pregate.v1.ExpertWorker/Attach", {Role::kScheduler}},
      {"/pregate.v1.ExpertWorker/Meet", {Role::kWorker}},
      {"/grpc.health.v1.Health/Check", all},
      {"/grpc.health.v1.Health/Watch", all},
      {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
       {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Nothing/Here", {}},
      {"/pregate.v1.Router/Other", {}},
  };
  const auto server = testing::Serve(service_, host_, GetParam());
  for (const Role role : all) {
    const TlsPeer client(authority_.Issue(role));
    const auto channel = Dial(*server, client);
    for (const auto& [path, roles] : kExpected) {
      const grpc::Status status = Call(channel, path);
      const bool is_refused = status.error_code() == grpc::StatusCode::PERMISSION_DENIED;
      EXPECT_EQ(is_refused, roles.count(role) == 0)
          << RoleName(role) << " " << path << ": " << status.error_code() << " "
          << status.error_message();
      if (is_refused) {
        EXPECT_THAT(status.error_message(), HasSubstr(RoleName(role)));
        EXPECT_THAT(status.error_message(), HasSubstr(path));
      } else if (path != "/grpc.health.v1.Health/Watch") {
        EXPECT_TRUE(status.ok()) << RoleName(role) << " " << path << ": " << status.error_code()
                                 << " " << status.error_message();
      }
    }
  }
  EXPECT_TRUE(host_.Logged("peer refused")) << host_.Lines();
  EXPECT_TRUE(host_.Logged("may not call /")) << host_.Lines();
}

// A flood of refused calls ends in a bounded log.
TEST_F(SecurityAccessTest, AFloodOfRefusalsDoesNotFloodTheLog) {
  const auto server = testing::Serve(service_, host_);
  const TlsPeer client(authority_.Issue(Role::kMonitor));
  const auto channel = Dial(*server, client);
  for (int i = 0; i < 300; ++i) Call(channel, "/pregate.v1.Router/Route");
  const std::string lines = host_.Lines();
  const auto count = std::count(lines.begin(), lines.end(), '\n') + 1;
  EXPECT_GE(count, kRefusalLinesMax);
  EXPECT_LT(count, 3 * kRefusalLinesMax + 10);  // three windows, were it that slow
}

}  // namespace
}  // namespace pregate
