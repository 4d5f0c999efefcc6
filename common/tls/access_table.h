// Who may call what: the one table, for gRPC methods and HTTP paths. What it does not name is
// refused to everyone.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/tls/identity.h"

namespace pregate {

struct AccessRow {
  // A gRPC method "/package.Service/Method", all methods of a service "/package.Service/", or an
  // HTTP request "GET /path".
  const char* call;
  RoleSet roles;
};
absl::Span<const AccessRow> AccessTable();

// OK or PERMISSION_DENIED, which names role and call. `call` may be anything that a peer sent.
absl::Status CheckAccess(Role role, absl::string_view call);

// Who may shake hands with a port that serves `service` ("pregate.v1.Router"): those that may call
// it, operators, and whoever has the server's own role `own`, as its probes do. That a call which
// the table gives to every role is refused to the others there keeps them from costing anything.
RoleSet RolesServedAt(absl::string_view service, Role own);

}  // namespace pregate
