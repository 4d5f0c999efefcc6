// HTTP/1.1 for a few short answers: plain, or over TLS with client certificates. One thread
// accepts, reads and writes for all connections, so that no connection holds another up, whatever
// its peer does or does not do.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/config/address.h"
#include "common/tls/tls_gate.h"

namespace pregate {

struct HttpAnswer {
  int status = 200;
  std::string content_type = "text/plain";
  std::string body;
};

// Bounded: at most kMetricsConnectionsMax connections, of which the one that has been silent for
// the longest makes room for a new one. Handshake and request take kMetricsTimeoutMs at most, and
// so does the answer; a connection that is kept waits kMetricsIdleMsMax for its next request.
class HttpServer {
 public:
  // Answers "GET PATH", PATH without its query; on the server's thread, so it must be quick.
  using Get = std::function<HttpAnswer(absl::string_view path)>;

  // Port 0 takes a free port. With `gate`, which outlives the server, HTTPS: peers need a
  // certificate and a role of the access table for what they ask (else 403, whether or not it is
  // there).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const Address& address, Get get,
                                                           const TlsGate* gate);
  ~HttpServer();  // cuts what is open, joins

  const Address& bound() const;  // with the port that was taken

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate
