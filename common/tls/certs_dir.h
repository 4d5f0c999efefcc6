// The directory that `pregate certs` keeps: DIR/ca/{ca.crt,ca.key}, and DIR/ROLE/{tls.crt,tls.key,
// ca.crt} for each role. A role's three files are links through DIR/ROLE/..data, as in a Kubernetes
// secret's mount: one rename puts new ones in place of all three.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/tls/identity.h"
#include "common/tls/tls_material.h"

namespace pregate {

struct CertsOptions {
  std::string dir;
  std::string trust_domain = "pregate.internal";
  absl::Duration lifetime = absl::Hours(24 * 90);  // of leaves
  std::vector<std::string> hosts;                  // besides localhost, 127.0.0.1 and ::1
};

// Makes an authority (10 years) and a certificate for each role. ALREADY_EXISTS when DIR/ca is
// there: whoever trusts it would be cut off.
absl::Status InitCerts(const CertsOptions& options, absl::Time now);
// New certificates and keys for each role from the authority in DIR/ca. Hosts and trust domain are
// taken from the options, not from what is there; each role's new files belong to the user and
// group of its old tls.key. Where a role's cannot be written, nobody's are replaced: e.g.
// PERMISSION_DENIED where we may not give files to that user, FAILED_PRECONDITION where one of them
// is a link to elsewhere.
absl::Status RenewCerts(const CertsOptions& options, absl::Time now);

struct CertInfo {
  std::string name;  // "ca" or a role
  std::string file, subject, serial, fingerprint_sha256;
  std::string uri;                  // empty for an authority
  std::vector<std::string> trusts;  // fingerprints of the authorities in its ca.crt
  absl::Time not_before, not_after;
};
// Of DIR/ca and every DIR/ROLE that is there. NOT_FOUND when there is none.
absl::StatusOr<std::vector<CertInfo>> ShowCerts(const std::string& dir);

// Replaces the three files of `role_dir` at once; makes the directory if it is not there. The key
// is readable by its owner only, who is the owner of the key before it.
absl::Status WriteTlsDir(const std::string& role_dir, const TlsPem& pem);

}  // namespace pregate
