#include "common/tls/identity.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace pregate {
namespace {

constexpr Role kRoles[] = {Role::kScheduler, Role::kRouter,  Role::kWorker,
                           Role::kClient,    Role::kMonitor, Role::kOperator};
constexpr size_t kTrustDomainBytesMax = 255;
constexpr size_t kShownBytesMax = 128;
constexpr char kPath[] = "/pregate/";

}  // namespace

absl::Span<const Role> AllRoles() { return kRoles; }

const char* RoleName(Role role) {
  switch (role) {
    case Role::kScheduler:
      return "scheduler";
    case Role::kRouter:
      return "router";
    case Role::kWorker:
      return "worker";
    case Role::kClient:
      return "client";
    case Role::kMonitor:
      return "monitor";
    case Role::kOperator:
      return "operator";
  }
  return "unknown";
}

std::string RoleSet::ToString() const {
  std::vector<std::string> names;
  for (const Role role : kRoles) {
    if (Has(role)) names.push_back(RoleName(role));
  }
  return absl::StrJoin(names, " or ");
}

absl::Status CheckTrustDomain(absl::string_view trust_domain) {
  bool good = !trust_domain.empty() && trust_domain.size() <= kTrustDomainBytesMax;
  for (const char c : trust_domain) {
    good &= absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '.' || c == '-' || c == '_';
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "'", Shown(trust_domain), "' is no trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'"));
}

std::string IdentityUri(absl::string_view trust_domain, Role role) {
  return absl::StrCat("spiffe://", trust_domain, kPath, RoleName(role));
}

absl::StatusOr<Role> ParseIdentity(absl::string_view uri, absl::string_view trust_domain) {
  const auto refuse = [uri](auto... why) {
    return absl::PermissionDeniedError(absl::StrCat("identity '", Shown(uri), "': ", why...));
  };
  absl::string_view rest = uri;
  if (!absl::ConsumePrefix(&rest, "spiffe://")) return refuse("not a spiffe:// URI");
  const size_t slash = rest.find('/');
  if (slash == absl::string_view::npos) return refuse("no path");
  if (rest.substr(0, slash) != trust_domain) {
    return refuse("wrong trust domain, '", trust_domain, "' is trusted");
  }
  rest.remove_prefix(slash);
  if (!absl::ConsumePrefix(&rest, kPath)) return refuse("its path is not /pregate/ROLE");
  for (const Role role : kRoles) {
    if (rest == RoleName(role)) return role;
  }
  return refuse("unknown role");
}

std::string Shown(absl::string_view text) {
  return text.size() <= kShownBytesMax
             ? absl::CHexEscape(text)
             : absl::StrCat(absl::CHexEscape(text.substr(0, kShownBytesMax)), "...");
}

}  // namespace pregate
