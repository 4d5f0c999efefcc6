#include "common/tls/access_table.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

// Written out a second time, by call, so that a change of the table is a change of this test.
TEST(AccessTableTest, EachRoleMayCallWhatItNeedsAndNothingElse) {
  const std::set<Role> all(AllRoles().begin(), AllRoles().end());
  const std::map<std::string, std::set<Role>> kExpected = {
      {"/pregate.v1.Inference/Generate", {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Inference/Tokenize", {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Inference/GetModelInfo", {Role::kClient, Role::kOperator}},
      {"/pregate.v1.Router/Route", {Role::kScheduler}},
      {"/pregate.v1.ExpertWorker/Attach", {Role::kScheduler}},
      {"/pregate.v1.ExpertWorker/Meet", {Role::kWorker}},
      {"/grpc.health.v1.Health/Check", all},
      {"/grpc.health.v1.Health/Watch", all},
      {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
       {Role::kClient, Role::kOperator}},
      {"GET /metrics", {Role::kMonitor, Role::kOperator}},
      {"GET /healthz", all},
      {"", {}},
      {"/", {}},
      {"GET /", {}},
      {"HEAD /metrics", {}},
      {"POST /metrics", {}},
      {"GET /metrics/", {}},
      {"GET /metricsx", {}},
      {"/pregate.v1.Inference", {}},
      {"/pregate.v1.InferenceX/Generate", {}},
      {"pregate.v1.Inference/Generate", {}},
      {"/pregate.v1.Router/Routes", {}},
      {"/pregate.v1.Router/", {}},
      {"/pregate.v1.ExpertWorker/Shutdown", {}},
      {"/grpc.channelz.v1.Channelz/GetServers", {}},
  };
  for (const auto& [call, roles] : kExpected) {
    for (const Role role : all) {
      const absl::Status status = CheckAccess(role, call);
      EXPECT_EQ(status.ok(), roles.count(role) == 1) << RoleName(role) << " " << call;
      if (status.ok()) continue;
      EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
      EXPECT_THAT(std::string(status.message()), HasSubstr(RoleName(role)));
      EXPECT_THAT(std::string(status.message()), HasSubstr(call));
    }
  }
}

TEST(AccessTableTest, APortShakesHandsWithWhomItServes) {
  const std::map<std::pair<std::string, Role>, std::set<Role>> kExpected = {
      {{"pregate.v1.Inference", Role::kScheduler},
       {Role::kClient, Role::kOperator, Role::kScheduler}},
      {{"pregate.v1.Router", Role::kRouter}, {Role::kScheduler, Role::kOperator, Role::kRouter}},
      {{"pregate.v1.ExpertWorker", Role::kWorker},
       {Role::kScheduler, Role::kWorker, Role::kOperator}},
      {{"pregate.v1.Route", Role::kRouter}, {Role::kRouter, Role::kOperator}},
  };
  for (const auto& [port, roles] : kExpected) {
    const RoleSet served = RolesServedAt(port.first, port.second);
    for (const Role role : AllRoles()) {
      EXPECT_EQ(served.Has(role), roles.count(role) == 1) << port.first << " " << RoleName(role);
    }
  }
}

}  // namespace
}  // namespace pregate
