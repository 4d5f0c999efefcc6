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

}  // namespace pregate
