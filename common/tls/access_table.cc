#include "common/tls/access_table.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr AccessRow kTable[] = {
    {"/pregate.v1.Inference/", {Role::kClient, Role::kOperator}},
    {"/pregate.v1.Router/Route", {Role::kScheduler}},
    {"/pregate.v1.ExpertWorker/Attach", {Role::kScheduler}},
    {"/pregate.v1.ExpertWorker/Meet", {Role::kWorker}},
    {"/grpc.health.v1.Health/", RoleSet::All()},
    {"/grpc.reflection.v1alpha.ServerReflection/", {Role::kClient, Role::kOperator}},
    {"/grpc.reflection.v1.ServerReflection/", {Role::kClient, Role::kOperator}},
    {"GET /metrics", {Role::kMonitor, Role::kOperator}},
    {"GET /healthz", RoleSet::All()},
};

bool Covers(absl::string_view row, absl::string_view call) {
  return absl::EndsWith(row, "/") ? absl::StartsWith(call, row) : call == row;
}

}  // namespace

absl::Span<const AccessRow> AccessTable() { return kTable; }

absl::Status CheckAccess(Role role, absl::string_view call) {
  for (const AccessRow& row : kTable) {
    if (Covers(row.call, call) && row.roles.Has(role)) return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("role ", RoleName(role), " may not call ", Shown(call)));
}

RoleSet RolesServedAt(absl::string_view service, Role own) {
  RoleSet roles = {own, Role::kOperator};
  for (const AccessRow& row : kTable) {
    if (absl::StartsWith(row.call, absl::StrCat("/", service, "/"))) roles = roles | row.roles;
  }
  return roles;
}

}  // namespace pregate
