// `pregate certs init|renew|show`: an authority of our own and certificates for every role.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "cli/command.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/tls/certs_dir.h"

namespace pregate::cli {
namespace {

constexpr int kDaysMax = 825;  // what browsers and Apple's TLS take at most

struct CertsJob {
  CertsOptions certs;
  int32_t days = 90;
  bool as_json = false;
};

void DeclareCertsDir(OptionSet& set, CertsJob* o) {
  set.String("dir", &o->certs.dir, "directory of ca/ and of one directory for each role")
      .Required();
  set.Switch("json", &o->as_json, "print one JSON object");
}

void DeclareCertsIssue(OptionSet& set, CertsJob* o) {
  DeclareCertsDir(set, o);
  set.Int("days", &o->days, 1, kDaysMax, "days", "lifetime of the roles' certificates");
  set.Strings("hosts", &o->certs.hosts,
              "names and addresses besides localhost, 127.0.0.1 and ::1, for clients that compare "
              "host names (Prometheus, Python); pregate's own compare roles");
  set.String("tls-trust-domain", &o->certs.trust_domain,
             "of the roles' spiffe://TRUST_DOMAIN/pregate/ROLE");
}

std::string UtcOf(absl::Time t) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", t, absl::UTCTimeZone());
}

nlohmann::json CertsToJson(const std::vector<CertInfo>& all) {
  nlohmann::json list = nlohmann::json::array();
  for (const CertInfo& c : all) {
    list.push_back({{"name", c.name},
                    {"file", c.file},
                    {"subject", c.subject},
                    {"uri", c.uri},
                    {"serial", c.serial},
                    {"not_before", UtcOf(c.not_before)},
                    {"not_after", UtcOf(c.not_after)},
                    {"fingerprint_sha256", c.fingerprint_sha256},
                    {"trusts_sha256", c.trusts}});
  }
  return {{"certificates", list}};
}

absl::Status PrintCerts(const CertsJob& o) {
  ASSIGN_OR_RETURN(const std::vector<CertInfo> all, ShowCerts(o.certs.dir));
  if (o.as_json) {
    PrintJson(CertsToJson(all));
    return absl::OkStatus();
  }
  const absl::Time now = absl::Now();
  for (const CertInfo& c : all) {
    std::printf("%s\n", absl::StrFormat("%-10s until %s%s  sha256 %s  %s", c.name,
                                        UtcOf(c.not_after), c.not_after < now ? " EXPIRED" : "",
                                        c.fingerprint_sha256.substr(0, 16), c.file)
                            .c_str());
  }
  return absl::OkStatus();
}

int FinishCerts(const char* command, const absl::Status& status) {
  return status.ok() ? kExitOk : Fail(command, status);
}

}  // namespace

int CertsInit(int argc, const char* const* argv) {
  CertsJob o;
  OptionSet set("pregate certs init", "Makes an authority and a certificate for each role.");
  DeclareCertsIssue(set, &o);
  PARSE_OPTIONS_OR_RETURN(set, "certs init", argc, argv);
  o.certs.lifetime = absl::Hours(24) * o.days;
  absl::Status status = InitCerts(o.certs, absl::Now());
  if (status.ok()) status = PrintCerts(o);
  if (status.ok() && !o.as_json) {
    std::printf(
        "\nKeep %s/ca/ca.key off the servers. Next, for each service its own directory:\n"
        "  pregate-router --tls-dir %s/router ...; pregate health --tls-dir %s/operator --server "
        "HOST:PORT\n",
        o.certs.dir.c_str(), o.certs.dir.c_str(), o.certs.dir.c_str());
  }
  return FinishCerts("certs init", status);
}

int CertsRenew(int argc, const char* const* argv) {
  CertsJob o;
  OptionSet set("pregate certs renew",
                "Makes new certificates and keys from the same authority; running services take "
                "them within seconds.");
  DeclareCertsIssue(set, &o);
  PARSE_OPTIONS_OR_RETURN(set, "certs renew", argc, argv);
  o.certs.lifetime = absl::Hours(24) * o.days;
  absl::Status status = RenewCerts(o.certs, absl::Now());
  if (status.ok()) status = PrintCerts(o);
  return FinishCerts("certs renew", status);
}

int CertsShow(int argc, const char* const* argv) {
  CertsJob o;
  OptionSet set("pregate certs show", "Shows roles, lifetimes and fingerprints of certificates.");
  DeclareCertsDir(set, &o);
  PARSE_OPTIONS_OR_RETURN(set, "certs show", argc, argv);
  return FinishCerts("certs show", PrintCerts(o));
}

}  // namespace pregate::cli
