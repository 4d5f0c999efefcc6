#include "common/telemetry/timed_http_server.h"

#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "common/config/limits.h"

namespace pregate {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kStopPoll(50);  // the longest wait that does not see Stop

// A connection, plain or TLS, whose socket does not block. One thread.
class TimedStream final : public httplib::Stream {
 public:
  // `bio` reads and writes `socket`.
  TimedStream(BioPtr bio, socket_t socket, const std::atomic<bool>* stopping)
      : bio_(std::move(bio)), socket_(socket), stopping_(stopping) {}

  bool Handshake() {
    return Retry([this] { return static_cast<int>(BIO_do_handshake(bio_.get())); }) > 0;
  }
  bool late() const { return SteadyClock::now() >= deadline_; }

  bool is_readable() const override { return BIO_pending(bio_.get()) > 0 || Wait(POLLIN); }
  bool is_writable() const override { return Wait(POLLOUT); }
  ssize_t read(char* bytes, size_t size) override {
    return Retry([&] { return BIO_read(bio_.get(), bytes, static_cast<int>(size)); });
  }
  // All or nothing.
  ssize_t write(const char* bytes, size_t size) override {
    if (!answering_) deadline_ = SteadyClock::now() + kTimeout;
    answering_ = true;
    for (size_t at = 0; at < size;) {
      const int written =
          Retry([&] { return BIO_write(bio_.get(), bytes + at, static_cast<int>(size - at)); });
      if (written <= 0) return -1;
      at += written;
    }
    return static_cast<ssize_t>(size);
  }
  // Nothing of ours asks.
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return socket_; }

 private:
  static constexpr std::chrono::milliseconds kTimeout{kMetricsTimeoutMs};

  // Takes `step` until it has done something: what that was, else 0 or less.
  template <typename Step>
  int Retry(Step step) {
    while (!*stopping_ && !late()) {
      const int done = step();
      if (done > 0 || !BIO_should_retry(bio_.get())) return done;
      if (!Wait(BIO_should_write(bio_.get()) ? POLLOUT : POLLIN)) return -1;
    }
    return -1;
  }

  bool Wait(short events) const {
    while (!*stopping_ && !late()) {
      const auto left =
          std::chrono::ceil<std::chrono::milliseconds>(deadline_ - SteadyClock::now());
      pollfd waited = {.fd = socket_, .events = events, .revents = 0};
      const int found = poll(&waited, 1, static_cast<int>(std::min(left, kStopPoll).count()));
      if (found > 0) return true;
      if (found < 0 && errno != EINTR) return false;
    }
    return false;
  }

  const BioPtr bio_;
  const socket_t socket_;
  const std::atomic<bool>* const stopping_;
  SteadyClock::time_point deadline_ = SteadyClock::now() + kTimeout;
  bool answering_ = false;
};

// Of an SSL that it owns and that is accepting; null where memory is short.
BioPtr MakeTlsBio(SSL_CTX* context, socket_t socket) {
  BioPtr bio(BIO_new(BIO_f_ssl()));
  SSL* const ssl = bio == nullptr ? nullptr : SSL_new(context);
  if (ssl == nullptr) return nullptr;
  BIO_set_ssl(bio.get(), ssl, BIO_CLOSE);
  SSL_set_accept_state(ssl);
  return SSL_set_fd(ssl, socket) == 1 ? std::move(bio) : nullptr;
}

}  // namespace

void TimedHttpServer::Stop() {
  stopping_ = true;
  stop();
}

bool TimedHttpServer::process_and_close_socket(socket_t socket) {
  const bool served = Serve(socket);
  ERR_clear_error();  // this connection's errors are not the next one's
  shutdown(socket, SHUT_RDWR);
  close(socket);
  return served;
}

bool TimedHttpServer::Serve(socket_t socket) {
  if (fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK) != 0) return false;
  BioPtr bio = context_ == nullptr ? BioPtr(BIO_new_socket(socket, BIO_NOCLOSE))
                                   : MakeTlsBio(context_.get(), socket);
  if (bio == nullptr) return false;
  SSL* ssl = nullptr;
  if (context_ != nullptr) BIO_get_ssl(bio.get(), &ssl);
  TimedStream stream(std::move(bio), socket, &stopping_);
  if (ssl != nullptr && !stream.Handshake()) {
    if (stream.late() && on_late_) {
      on_late_(absl::StrCat("handshake: not done in ", kMetricsTimeoutMs, " ms"));
    }
    return false;
  }
  bool closed = false;
  return process_request(stream, /*close_connection=*/true, closed,
                         [ssl](httplib::Request& request) { request.ssl = ssl; });
}

}  // namespace pregate
