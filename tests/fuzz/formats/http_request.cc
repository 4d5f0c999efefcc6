// What the metrics port is sent, on a connection without a socket.
#include "common/http/http_request.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::http_request {
namespace {

// A peer that sends `bytes` in pieces and hangs up.
class Peer {
 public:
  Peer(std::string_view bytes, size_t piece_bytes) : rest_(bytes), piece_bytes_(piece_bytes) {}

  template <typename Buffers>
  size_t read_some(const Buffers& buffers, boost::system::error_code& error) {
    const size_t size = boost::asio::buffer_copy(
        buffers, boost::asio::buffer(rest_.data(), std::min(rest_.size(), piece_bytes_)));
    error = {};
    if (rest_.empty()) error = boost::asio::error::eof;
    rest_.remove_prefix(size);
    return size;
  }
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {  // Beast wants both, and calls the other
    boost::system::error_code error;
    return read_some(buffers, error);
  }

 private:
  std::string_view rest_;
  const size_t piece_bytes_;
};

HttpAnswer Get(absl::string_view path) {
  PREGATE_CHECK(path.find('?') == path.npos);
  return {.body = std::string(path)};
}

// Requests and their answers as a connection has them, up to the first that is none.
std::vector<std::string> Serve(Peer peer) {
  HttpRequestReader reader;
  std::vector<std::string> seen;
  for (bool keep_alive = true; keep_alive;) {
    boost::system::error_code error;
    reader.Begin();
    boost::beast::http::read(peer, reader.buffer, *reader.parser, error);
    if (error) break;
    const auto& request = reader.parser->get();
    PREGATE_CHECK(request.body().size() <= static_cast<size_t>(kMetricsRequestBytesMax));
    const HttpAnswer answer = AnswerTo(request, Get);
    seen.push_back(absl::StrCat(answer.status, " ", answer.body, "\n", request.body()));
    keep_alive = request.keep_alive();
  }
  return seen;
}

// However the bytes arrive, the same requests are answered. (When a bad one is found out depends on
// it: Beast waits for a head's end unless it sees what cannot be right.)
bool Run(std::string_view input) {
  const std::vector<std::string> seen = Serve(Peer(input, input.size()));
  PREGATE_CHECK(Serve(Peer(input, 5)) == seen, "in pieces");
  return !seen.empty();
}

std::vector<std::string> Seeds() {
  return {
      "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\nGET /healthz?x=1 HTTP/1.1\r\n"
      "Connection: close\r\n\r\n",
      "POST /a HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
      "GET /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: "
      "1\r\n\r\n"};
}

// As much as a head may have, and a little more.
const Registration registration({.name = "http_request",
                                 .seeds = Seeds,
                                 .run = Run,
                                 .bytes_max = kMetricsHeaderBytesMax + 512});

}  // namespace
}  // namespace pregate::fuzz::http_request
