#include "cli/top/fetch.h"

#include <httplib.h>

#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/tls/peer_check.h"

namespace pregate::cli {
namespace {

constexpr RoleSet kServers = {Role::kScheduler, Role::kRouter, Role::kWorker};

// What the handshake's callback knows and says.
struct ServerCheck {
  const TlsMaterial* trusting;
  absl::Status status;
};

// In place of OpenSSL's own verification: the same check as gRPC's, by role.
int VerifyServer(X509_STORE_CTX* context, void* arg) {
  auto* const check = static_cast<ServerCheck*>(arg);
  X509* const certificate = X509_STORE_CTX_get0_cert(context);
  check->status = CheckChain(*check->trusting, certificate, X509_STORE_CTX_get0_untrusted(context),
                             PeerUse::kServer);
  if (check->status.ok()) {
    const auto role = RoleOf(*check->trusting, certificate);
    check->status = role.status();
    if (role.ok() && !kServers.Has(*role)) {
      check->status = absl::PermissionDeniedError(
          absl::StrCat("the server is a ", RoleName(*role), ", not ", kServers.ToString()));
    }
  }
  X509_STORE_CTX_set_error(context,
                           check->status.ok() ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
  return check->status.ok() ? 1 : 0;
}

// httplib would compare host names, which pregate's certificates need not have.
std::unique_ptr<httplib::ClientImpl> MakeClient(const Address& address, ServerCheck* check) {
  if (check == nullptr) return std::make_unique<httplib::ClientImpl>(address.host, address.port);
  auto client = std::make_unique<httplib::SSLClient>(
      address.host, address.port, check->trusting->certificate.get(), check->trusting->key.get());
  client->enable_server_certificate_verification(false);
  SSL_CTX* const context = client->ssl_context();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context, VerifyServer, check);
  for (const X509Ptr& next : check->trusting->intermediates) {
    SSL_CTX_add1_chain_cert(context, next.get());
  }
  return client;
}

absl::StatusOr<std::string> Get(httplib::ClientImpl& client, absl::Duration timeout) {
  client.set_connection_timeout(absl::ToChronoMicroseconds(timeout));
  client.set_read_timeout(absl::ToChronoMicroseconds(timeout));
  const absl::Time end = absl::Now() + timeout;
  std::string body;
  int code = 0;
  const auto result = client.Get(
      "/metrics", httplib::Headers{},
      [&](const httplib::Response& response) { return (code = response.status) == 200; },
      [&](const char* data, size_t size) {  // a body without an end, or one that trickles
        if (body.size() + size > kExpositionBytesMax || absl::Now() > end) return false;
        body.append(data, size);
        return true;
      });
  if (code != 0 && code != 200) return absl::UnavailableError(absl::StrCat("HTTP ", code));
  if (result) return body;
  if (body.empty()) {
    return absl::UnavailableError(absl::StrCat("no answer: ", httplib::to_string(result.error())));
  }
  return absl::UnavailableError(
      absl::StrCat("more than ", kExpositionBytesMax, " bytes or ", absl::FormatDuration(timeout)));
}

absl::StatusOr<Scrape> Fetch(const Address& address, const TlsMaterial* tls,
                             absl::Duration timeout) {
  ServerCheck check{tls, absl::OkStatus()};
  const auto client = MakeClient(address, tls == nullptr ? nullptr : &check);
  const auto body = Get(*client, timeout);
  RETURN_IF_ERROR(check.status);
  RETURN_IF_ERROR(body.status());
  ASSIGN_OR_RETURN(std::vector<Sample> samples, ParseExposition(*body));
  return Scrape(std::move(samples));
}

}  // namespace

std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, TlsFiles* tls,
                                   absl::Duration timeout) {
  const auto material = tls == nullptr ? nullptr : tls->Current();
  std::vector<std::future<SourceSample>> pending;
  for (const Address& address : addresses) {
    pending.push_back(std::async(std::launch::async, [&address, &material, timeout] {
      SourceSample sample{.address = address.ToString()};
      auto scrape = Fetch(address, material.get(), timeout);
      sample.time = absl::Now();
      if (scrape.ok()) {
        sample.scrape = *std::move(scrape);
      } else {
        sample.why_down = std::string(scrape.status().message());
      }
      return sample;
    }));
  }
  std::vector<SourceSample> samples;
  for (auto& future : pending) samples.push_back(future.get());
  return samples;
}

}  // namespace pregate::cli
