// What the front door's HTTP port is sent: a real connection, on one end of a socket pair.
#include "gateway_service/edge/http_connection.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/files.h"
#include "common/base/gateway_limits.h"
#include "common/base/status.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::http_connection {
namespace {

using namespace gateway;

// Answers at once: by the path whole, as a stream, or before the body.
class Handler final : public HttpHandler {
 public:
  std::optional<HttpReply> Refuse(const HttpRequest& head) override {
    PREGATE_CHECK(!absl::StrContains(head.path, "?"));
    if (head.path == "/refused") return HttpReply{.status = 404};
    return std::nullopt;
  }
  void Handle(HttpRequest request, std::shared_ptr<HttpExchange> http) override {
    PREGATE_CHECK(request.body.size() <= static_cast<size_t>(kHttpBodyBytesMax));
    ++handled;
    if (request.path != "/stream") return http->Reply({.body = request.body});
    http->BeginStream({});
    http->Write(request.body);
    http->Write("data: x\n\n");
    http->EndStream();
  }
  HttpReply Malformed(int status, const std::string& why) override {
    PREGATE_CHECK(status >= 400 && !why.empty());
    return {.status = status, .body = why};
  }
  void CountBytes(size_t, size_t) override {}
  void CountConnections(int) override {}

  int handled = 0;
};

// Everything that happens without waiting.
void RunReady(boost::asio::io_context& context) {
  context.restart();
  while (context.poll() > 0) context.restart();
}

void Drain(int fd, std::string* answers) {
  char bytes[4096];
  for (ssize_t n; (n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0;)
    answers->append(bytes, n);
}

// In pieces of `piece` bytes. Returns how many requests were answered.
int Serve(std::string_view input, size_t piece) {
  Handler handler;
  HttpShared shared;
  shared.handler = &handler;
  std::string answers;
  {
    HttpShard shard;
    shard.shared = &shared;
    int pair[2];
    PREGATE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    const UniqueFd peer(pair[0]);
    boost::asio::ip::tcp::socket socket(shard.context, boost::asio::ip::tcp::v4(), pair[1]);
    std::make_shared<HttpConnection>(&shard, std::move(socket))->Start();
    while (!input.empty()) {
      RunReady(shard.context);
      Drain(peer.get(), &answers);
      const ssize_t sent =
          send(peer.get(), input.data(), std::min(piece, input.size()), MSG_NOSIGNAL);
      if (sent <= 0) break;  // it was cut
      input.remove_prefix(sent);
    }
    RunReady(shard.context);
    Drain(peer.get(), &answers);
    shutdown(peer.get(), SHUT_RDWR);
    RunReady(shard.context);
  }
  PREGATE_CHECK(shared.num_open == 0 && shared.num_answering == 0 && shared.body_bytes == 0);
  PREGATE_CHECK(answers.empty() || absl::StartsWith(answers, "HTTP/1.1 "));
  return handler.handled;
}

// However the bytes arrive, as many requests are handled.
bool Run(std::string_view input) {
  const int handled = Serve(input, input.size());
  PREGATE_CHECK(Serve(input, 7) == handled, "in pieces");
  return handled > 0;
}

std::vector<std::string> Seeds() {
  return {
      "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET /stream HTTP/1.1\r\n\r\n",
      "POST /stream HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: "
      "100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /x HTTP/1.1\r\nConnection: "
      "close\r\n\r\n",
      "GET /refused HTTP/1.1\r\n\r\nPOST /x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"};
}

const Registration registration(
    {.name = "http_connection", .seeds = Seeds, .run = Run, .bytes_max = kHttpHeadBytesMax + 512});

}  // namespace
}  // namespace pregate::fuzz::http_connection
