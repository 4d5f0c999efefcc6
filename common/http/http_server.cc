#include "common/http/http_server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <list>
#include <optional>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/http/http_request.h"
#include "common/http/listen_socket.h"
#include "common/tls/https.h"

namespace pregate {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using TlsStream = asio::ssl::stream<beast::tcp_stream>;

constexpr std::chrono::milliseconds kRequestTimeout(kMetricsTimeoutMs);
constexpr std::chrono::milliseconds kIdleMax(kMetricsIdleMsMax);
constexpr std::chrono::milliseconds kAcceptRetry(50);  // after the system refused a descriptor

absl::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// The connections that wait for their peers, the longest silent first.
class SilentConnections {
 public:
  using Entry = std::list<std::function<void()>>::iterator;

  Entry Add(std::function<void()> cut) { return cuts_.insert(cuts_.end(), std::move(cut)); }
  void Remove(Entry entry) { cuts_.erase(entry); }
  bool empty() const { return cuts_.empty(); }
  void CutOldest() { cuts_.front()(); }  // which removes it

 private:
  std::list<std::function<void()>> cuts_;
};

// What all connections of one server share. One thread.
struct Shared {
  HttpServer::Get get;
  const TlsGate* gate = nullptr;
  SilentConnections silent;
  int num_open = 0;
};

// Lives as long as an operation of it is under way.
template <typename Stream>
class Connection final : public std::enable_shared_from_this<Connection<Stream>> {
 public:
  template <typename... Context>
  Connection(Shared* shared, tcp::socket socket, Context&... context)
      : shared_(shared), stream_(std::move(socket), context...) {
    ++shared_->num_open;
  }
  ~Connection() {
    Speak();
    --shared_->num_open;
  }

  void Start() {
    BeSilent();
    lowest().expires_after(kRequestTimeout);
    if constexpr (kIsTls) {
      stream_.async_handshake(asio::ssl::stream_base::server, On(&Connection::OnHandshake));
    } else {
      ReadRequest();
    }
  }

 private:
  static constexpr bool kIsTls = std::is_same_v<Stream, TlsStream>;

  beast::tcp_stream& lowest() { return beast::get_lowest_layer(stream_); }

  // A completion handler that keeps the connection alive.
  auto On(void (Connection::*method)(error_code)) {
    return [self = this->shared_from_this(), method](error_code error, auto...) {
      (self.get()->*method)(error);
    };
  }

  void BeSilent() {
    if (!silent_) silent_ = shared_->silent.Add([this] { Cut(); });
  }
  void Speak() {
    if (silent_) shared_->silent.Remove(*silent_);
    silent_.reset();
  }
  void Cut() {
    Speak();
    lowest().close();  // ends what is under way
  }

  void OnHandshake(error_code error) {
    if (error == beast::error::timeout) {
      NoteHttpsRefusal(*shared_->gate,
                       absl::StrCat("handshake: not done in ", kMetricsTimeoutMs, " ms"));
    }
    if (!error) ReadRequest();
  }

  void ReadRequest() {
    BeSilent();
    reader_.Begin();
    http::async_read(stream_, reader_.buffer, *reader_.parser, On(&Connection::OnRequest));
  }

  void OnRequest(error_code error) {
    Speak();
    if (!error) return Write(Answer(), reader_.parser->get().keep_alive());
    if (IsMalformed(error)) Write({.status = 400, .body = error.message() + "\n"}, false);
  }

  HttpAnswer Answer() const {
    const auto& request = reader_.parser->get();
    if constexpr (kIsTls) {
      const absl::Status access =
          CheckHttpAccess(*shared_->gate, const_cast<Stream&>(stream_).native_handle(),
                          absl::StrCat(View(request.method_string()), " ", PathOf(request)));
      if (!access.ok()) return {.status = 403, .body = absl::StrCat(access.message(), "\n")};
    }
    return AnswerTo(request, shared_->get);
  }

  void Write(HttpAnswer answer, bool keep_alive) {
    response_ = {};
    response_.result(answer.status);
    response_.set(http::field::content_type, answer.content_type);
    response_.keep_alive(keep_alive);
    response_.body() = std::move(answer.body);
    response_.prepare_payload();
    lowest().expires_after(kRequestTimeout);
    http::async_write(stream_, response_, On(&Connection::OnWritten));
  }

  void OnWritten(error_code error) {
    if (error) return;
    if (response_.keep_alive()) {
      lowest().expires_after(kIdleMax);
      return ReadRequest();
    }
    if constexpr (kIsTls) {
      stream_.async_shutdown(On(&Connection::OnShutdown));  // under the answer's deadline
    } else {
      OnShutdown({});
    }
  }

  void OnShutdown(error_code) {
    error_code ignored;
    lowest().socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

  Shared* const shared_;
  Stream stream_;
  HttpRequestReader reader_;
  http::response<http::string_body> response_;
  std::optional<SilentConnections::Entry> silent_;
};

}  // namespace

// Members end in reverse order: connections, which live in the context's handlers, before what they
// use.
struct HttpServer::State {
  Shared shared;
  Address bound;
  std::optional<asio::ssl::context> tls;
  asio::io_context context{1};  // of one thread
  std::vector<tcp::acceptor> acceptors;
  std::thread thread;

  void Accept(tcp::acceptor& acceptor);
  void Serve(tcp::socket socket);
  void AcceptLater(tcp::acceptor& acceptor);
};

void HttpServer::State::Accept(tcp::acceptor& acceptor) {
  acceptor.async_accept([this, &acceptor](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) return AcceptLater(acceptor);
    Serve(std::move(socket));
    Accept(acceptor);
  });
}

// A connection that is cut has a handler that ends it: its number falls then.
void HttpServer::State::Serve(tcp::socket socket) {
  if (shared.num_open >= kMetricsConnectionsMax && !shared.silent.empty())
    shared.silent.CutOldest();
  if (shared.num_open >= 2 * kMetricsConnectionsMax) return;  // all of them are being answered
  if (tls) {
    std::make_shared<Connection<TlsStream>>(&shared, std::move(socket), *tls)->Start();
  } else {
    std::make_shared<Connection<beast::tcp_stream>>(&shared, std::move(socket))->Start();
  }
}

// Descriptors are short: a silent connection gives its own back.
void HttpServer::State::AcceptLater(tcp::acceptor& acceptor) {
  if (!shared.silent.empty()) shared.silent.CutOldest();
  auto timer = std::make_shared<asio::steady_timer>(context, kAcceptRetry);
  timer->async_wait([this, timer, &acceptor](error_code) { Accept(acceptor); });
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Address& address, Get get,
                                                              const TlsGate* gate) {
  if (address.is_unix()) {
    return absl::InvalidArgumentError(
        absl::StrCat(address.ToString(), ": HTTP is served on TCP only"));
  }
  auto state = std::make_unique<State>();
  state->shared.get = std::move(get);
  state->shared.gate = gate;
  if (gate != nullptr) {
    ASSIGN_OR_RETURN(SslContextPtr context, MakeHttpsContext(gate));
    state->tls.emplace(context.release());
  }
  ASSIGN_OR_RETURN(ListenSockets sockets, Listen(address));
  state->bound = sockets.bound;
  for (UniqueFd& fd : sockets.fds) {
    sockaddr_storage bound = {};
    socklen_t size = sizeof(bound);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &size);
    state->acceptors.emplace_back(
        state->context, bound.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), fd.Release());
  }
  for (tcp::acceptor& acceptor : state->acceptors) state->Accept(acceptor);
  state->thread = std::thread([s = state.get()] { s->context.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  state_->context.stop();
  state_->thread.join();
}

const Address& HttpServer::bound() const { return state_->bound; }

}  // namespace pregate
