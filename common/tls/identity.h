// Who a peer is: the one URI name of its certificate, spiffe://TRUST_DOMAIN/pregate/ROLE. A role is
// all that is told apart: two workers are the same to everyone.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace pregate {

enum class Role {
  kScheduler,
  kRouter,
  kWorker,
  kClient,    // an application that generates
  kMonitor,   // Prometheus
  kOperator,  // people: the command line, probes
};
absl::Span<const Role> AllRoles();
const char* RoleName(Role role);

// A value; all roles by default are none.
class RoleSet {
 public:
  constexpr RoleSet(std::initializer_list<Role> roles) {
    for (const Role role : roles) bits_ |= 1u << static_cast<int>(role);
  }
  static constexpr RoleSet All() {
    return {Role::kScheduler, Role::kRouter,  Role::kWorker,
            Role::kClient,    Role::kMonitor, Role::kOperator};
  }
  constexpr bool Has(Role role) const { return (bits_ >> static_cast<int>(role)) & 1u; }
  constexpr RoleSet operator|(RoleSet other) const {
    other.bits_ |= bits_;
    return other;
  }
  std::string ToString() const;  // "client or operator"

 private:
  uint32_t bits_ = 0;
};

// INVALID_ARGUMENT when it is no domain name in lower case (letters, digits, '.', '-', '_').
absl::Status CheckTrustDomain(absl::string_view trust_domain);

// "spiffe://pregate.internal/pregate/router".
std::string IdentityUri(absl::string_view trust_domain, Role role);

// The role that `uri` names. Errors say whether the form, the trust domain or the role is wrong;
// `uri` comes from outside and is shortened and escaped in them.
absl::StatusOr<Role> ParseIdentity(absl::string_view uri, absl::string_view trust_domain);

// Text from outside, for a message: at most 128 bytes, escaped.
std::string Shown(absl::string_view text);

}  // namespace pregate
