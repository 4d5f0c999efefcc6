#include "cli/top/fetch.h"

#include <httplib.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cli/printable.h"
#include "cli/top/socket_deadline.h"
#include "common/base/sigpipe_block.h"
#include "common/base/status.h"
#include "common/tls/peer_check.h"

namespace pregate::cli {
namespace {

constexpr RoleSet kServers = {Role::kScheduler, Role::kRouter, Role::kWorker};
constexpr size_t kErrorBytesMax = 160;

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

absl::Status Down(absl::string_view why) { return absl::UnavailableError(why); }

// httplib does not say why there is no connection, so it is tried once more.
std::string WhyNoConnection(const Address& address, absl::Duration timeout) {
  const addrinfo hints = {.ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (failed != 0) return gai_strerror(failed);
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return strerror(errno);
  const absl::Cleanup close_fd = [fd] { close(fd); };
  const timeval limit = absl::ToTimeval(timeout);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (connect(fd, found->ai_addr, found->ai_addrlen) == 0) return "no connection at first try";
  return errno == EINPROGRESS ? "no connection in time" : strerror(errno);
}

// A page without an end is cut off; of an error's the first line is enough.
struct Page {
  int code = 0;
  std::string body;
  bool too_long = false;

  bool Append(const char* data, size_t size) {
    const size_t room = (code == 200 ? kExpositionBytesMax : kErrorBytesMax) - body.size();
    body.append(data, std::min(size, room));
    too_long |= size > room;
    return !too_long;
  }
};

absl::Status HttpError(const Page& page) {
  const std::string line = page.body.substr(0, page.body.find_first_of("\r\n"));
  return Down(
      absl::StrCat("HTTP ", page.code, line.empty() ? "" : ": ", Printable(line, Layout::kCell)));
}

absl::StatusOr<std::string> Get(httplib::ClientImpl& client, const Address& address,
                                absl::Duration timeout, SocketDeadline& deadline) {
  client.set_connection_timeout(absl::ToChronoMicroseconds(timeout));
  client.set_read_timeout(absl::ToChronoMicroseconds(timeout));
  client.set_socket_options([&](int fd) { deadline.Add(fd); });
  Page page;
  const SigpipeBlock no_sigpipe;
  const auto result = client.Get(
      "/metrics", httplib::Headers{},
      [&](const httplib::Response& response) { return (page.code = response.status) != 0; },
      [&](const char* data, size_t size) { return page.Append(data, size); });
  if (page.code != 0 && page.code != 200) return HttpError(page);
  if (page.too_long) return Down(absl::StrCat("more than ", kExpositionBytesMax, " bytes"));
  if (deadline.passed()) {
    return Down(absl::StrCat("no whole answer within ", absl::FormatDuration(timeout)));
  }
  if (result) return page.body;
  if (result.error() == httplib::Error::Connection) return Down(WhyNoConnection(address, timeout));
  if (result.error() == httplib::Error::SSLConnection) return Down("no TLS handshake");
  return Down(absl::StrCat("the connection broke before ", page.code == 0 ? "an answer" : "its end",
                           " (TLS on one side only?)"));
}

absl::StatusOr<Scrape> Fetch(const Address& address, const TlsMaterial* tls, absl::Duration timeout,
                             SocketDeadline& deadline) {
  ServerCheck check{tls, absl::OkStatus()};
  const auto client = MakeClient(address, tls == nullptr ? nullptr : &check);
  const auto body = Get(*client, address, timeout, deadline);
  RETURN_IF_ERROR(check.status);
  RETURN_IF_ERROR(body.status());
  ASSIGN_OR_RETURN(std::vector<Sample> samples, ParseExposition(*body));
  return Scrape(std::move(samples));
}

}  // namespace

std::vector<SourceSample> FetchAll(const std::vector<Address>& addresses, TlsFiles* tls,
                                   absl::Duration timeout, const std::function<bool()>& cancelled) {
  const auto material = tls == nullptr ? nullptr : tls->Current();
  SocketDeadline deadline(timeout, cancelled);
  std::vector<std::future<SourceSample>> pending;
  for (const Address& address : addresses) {
    pending.push_back(std::async(std::launch::async, [&, timeout] {
      SourceSample sample{.address = address.ToString()};
      auto scrape = Fetch(address, material.get(), timeout, deadline);
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
