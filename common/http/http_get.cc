#include "common/http/http_get.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/tls/peer_check.h"

namespace pregate {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::chrono::milliseconds kCancelPoll(50);

absl::Status Unavailable(absl::string_view why) { return absl::UnavailableError(why); }

// What the handshake's callback knows and says.
struct ServerCheck {
  const TlsMaterial* trusting = nullptr;
  RoleSet servers;
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
    if (role.ok() && !check->servers.Has(*role)) {
      check->status = absl::PermissionDeniedError(
          absl::StrCat("the server is a ", RoleName(*role), ", not ", check->servers.ToString()));
    }
  }
  X509_STORE_CTX_set_error(context,
                           check->status.ok() ? X509_V_OK : X509_V_ERR_APPLICATION_VERIFICATION);
  return check->status.ok() ? 1 : 0;
}

void Configure(SSL_CTX* context, ServerCheck* check) {
  const TlsMaterial& own = *check->trusting;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context, VerifyServer, check);
  if (own.certificate == nullptr) return;
  SSL_CTX_use_certificate(context, own.certificate.get());
  SSL_CTX_use_PrivateKey(context, own.key.get());
  for (const X509Ptr& next : own.intermediates) SSL_CTX_add1_chain_cert(context, next.get());
}

// One page, over a stream that reads and writes on the caller's thread.
class Exchange {
 public:
  Exchange(const Address& address, const std::string& path, const HttpGetOptions& options)
      : options_(options), check_{options.tls, options.servers, absl::OkStatus()} {
    request_.method(http::verb::get);
    request_.target(path);
    request_.set(http::field::host, address.host);
    request_.keep_alive(false);
    parser_.body_limit(options.body_bytes_max);
    if (options.tls != nullptr) {
      tls_context_.emplace(asio::ssl::context::tls_client);
      Configure(tls_context_->native_handle(), &check_);
      tls_.emplace(tcp_, *tls_context_);
    }
  }

  absl::StatusOr<HttpPage> Run(const Address& address) {
    error_code error;
    const auto found =
        tcp::resolver(context_).resolve(address.host, absl::StrCat(address.port), error);
    if (error) return Unavailable(error.message());
    tcp_.expires_never();  // `end` is for all of it
    tcp_.async_connect(found, [this](error_code e, const tcp::endpoint&) { OnConnected(e); });
    const auto end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(options_.timeout);
    while (!done_) {
      context_.run_for(kCancelPoll);
      if (done_) break;
      if (options_.cancelled && options_.cancelled()) return Unavailable("cancelled");
      if (std::chrono::steady_clock::now() >= end) return TooLate();
    }
    if (!check_.status.ok()) return check_.status;
    if (!status_.ok()) return status_;
    return HttpPage{static_cast<int>(parser_.get().result_int()), std::move(parser_.get().body())};
  }

 private:
  absl::Status TooLate() const {
    return Unavailable(
        connected_ ? absl::StrCat("no whole answer within ", absl::FormatDuration(options_.timeout))
                   : "no connection in time");
  }

  void End(absl::Status status) {
    status_ = std::move(status);
    done_ = true;
    context_.stop();
  }

  void OnConnected(error_code error) {
    if (error) return End(Unavailable(error.message()));
    connected_ = true;
    if (!tls_) return Write(tcp_);
    tls_->async_handshake(asio::ssl::stream_base::client, [this](error_code e) {
      if (e) return End(Unavailable("no TLS handshake (TLS on one side only?)"));
      Write(*tls_);
    });
  }

  template <typename Stream>
  void Write(Stream& stream) {
    http::async_write(stream, request_, [this, &stream](error_code e, size_t) {
      if (e) return Broken();
      http::async_read(stream, buffer_, parser_, [this](error_code e, size_t) { OnRead(e); });
    });
  }

  void OnRead(error_code error) {
    if (!error) return End(absl::OkStatus());
    if (error == http::error::body_limit) {
      return End(Unavailable(absl::StrCat("more than ", options_.body_bytes_max, " bytes")));
    }
    Broken();
  }

  void Broken() {
    End(Unavailable(absl::StrCat("the connection broke before ",
                                 parser_.is_header_done() ? "its end" : "an answer",
                                 " (TLS on one side only?)")));
  }

  const HttpGetOptions& options_;
  ServerCheck check_;
  http::request<http::empty_body> request_;
  http::response_parser<http::string_body> parser_;
  beast::flat_buffer buffer_;
  bool connected_ = false, done_ = false;
  absl::Status status_;
  asio::io_context context_{1};
  std::optional<asio::ssl::context> tls_context_;
  beast::tcp_stream tcp_{context_};
  std::optional<asio::ssl::stream<beast::tcp_stream&>> tls_;
};

}  // namespace

absl::StatusOr<HttpPage> HttpGet(const Address& address, const std::string& path,
                                 const HttpGetOptions& options) {
  return Exchange(address, path, options).Run(address);
}

}  // namespace pregate
