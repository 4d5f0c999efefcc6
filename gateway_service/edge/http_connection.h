// One client's connection: requests one after the other, each read within limits and times, each
// answered before the next is read.
//
//   AwaitRequest ─▶ ReadHead ─▶ ReadBody ─▶ handler ─▶ Reply or a stream ─▶ Flush ... ─▶ AwaitRequest
//
// While an answer is made the socket is read on, to notice a client that goes. What an answer holds
// in memory is bounded: Write says when it is enough, and a client that takes nothing for
// kHttpStuckMsMax is cut.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "gateway_service/edge/http_exchange.h"

namespace pregate::gateway {

// What all connections of a server share.
struct HttpShared {
  HttpHandler* handler = nullptr;
  std::atomic<int> num_open{0};
  std::atomic<int> num_answering{0};
  std::atomic<int64_t> body_bytes{0};  // that are promised to requests whose bodies are read
  std::atomic<bool> draining{false};
};

class HttpConnection;
// One thread's connections. Touched on that thread only.
struct HttpShard {
  HttpShared* shared = nullptr;
  std::list<HttpConnection*> idle;  // between two requests, the longest silent first
  boost::asio::io_context context{1};
};

class HttpConnection final : public HttpExchange,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  // Then Start, on the shard's thread. Lives as long as an operation of it is under way, or somebody
  // answers its request.
  HttpConnection(HttpShard* shard, boost::asio::ip::tcp::socket socket);
  ~HttpConnection() override;
  void Start();
  void Cut();  // on the shard's thread

  void Reply(HttpReply reply) override;
  void BeginStream(HttpReply head) override;
  bool Write(absl::string_view bytes) override;
  void EndStream() override;
  void Watch(std::function<void()> on_gone, std::function<void()> on_writable) override;

 private:
  using Error = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // On the shard's thread.
  void AwaitRequest();
  void ReadHead();
  void OnHead(Error error);
  void ReadBody();
  void OnBody(Error error);
  void OnReadError(Error error);
  void Answer(HttpReply reply);  // of our own; closes afterwards
  void BeginAnswer();
  void ReadOn();
  void OnReadOn(Error error, size_t bytes);
  void Flush();
  void WriteSome();
  void OnAnswered();
  void Next();
  void Linger();
  void Discard();
  void Gone();
  bool ReserveBody();
  void ReleaseBody();
  void LeaveIdle();
  void TakeHead();

  enum class Framing { kLength, kChunks, kConnection };  // what ends the body
  void Append(const HttpReply& head, Framing framing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Kick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The shard's thread alone.
  HttpShard* const shard_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  HttpRequest request_;
  std::optional<std::list<HttpConnection*>::iterator> idle_;
  int64_t body_reserved_ = 0;
  bool reading_on_ = false;
  bool answered_ = false;   // and reading_on_ has yet to end
  bool answering_ = false;  // counted in num_answering
  std::string writing_;
  size_t written_ = 0;
  char discarded_[4096];

  // Of the request that is answered; set before the handler has it.
  bool is_head_ = false, is_http_1_0_ = false;

  std::mutex mutex_;
  bool keep_alive_ ABSL_GUARDED_BY(mutex_) = false;
  std::string unsent_ ABSL_GUARDED_BY(mutex_);
  bool chunked_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;     // nothing more is to be sent
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;      // the client
  bool flushing_ ABSL_GUARDED_BY(mutex_) = false;  // a Flush or a write is under way
  bool blocked_ ABSL_GUARDED_BY(mutex_) = false;   // a Write was told that it is enough
  std::function<void()> on_gone_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> on_writable_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate::gateway
