// An HTTP server whose connections end in time, however slowly their peers go on: httplib bounds
// each wait for bytes, so that one byte every second holds a thread for hours.
#pragma once

#include <httplib.h>

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "common/tls/openssl.h"

namespace pregate {

using SslContextPtr = std::unique_ptr<SSL_CTX, OpenSslDeleter<SSL_CTX_free>>;

// One request a connection. Handshake and request together take kMetricsTimeoutMs at most, and so
// does the answer.
class TimedHttpServer final : public httplib::Server {
 public:
  // HTTPS by `context`, or plain HTTP where it is null. `on_late` (may be null) is called, on the
  // server's threads, with why a handshake was given up.
  explicit TimedHttpServer(SslContextPtr context = nullptr,
                           std::function<void(absl::string_view reason)> on_late = nullptr)
      : context_(std::move(context)), on_late_(std::move(on_late)) {}

  // Open connections and listen_after_bind end at once. Thread-safe.
  void Stop();

 private:
  bool process_and_close_socket(socket_t socket) override;  // httplib's hook, on its pool's threads
  bool Serve(socket_t socket);

  const SslContextPtr context_;
  const std::function<void(absl::string_view)> on_late_;
  std::atomic<bool> stopping_{false};
};

}  // namespace pregate
