#include "gateway_service/edge/http_connection.h"

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"

namespace pregate::gateway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using std::chrono::milliseconds;

constexpr size_t kReadBytes = 4096;
constexpr size_t kBufferBytes = 64 << 10;  // more than a head: a body is read through it
constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";

absl::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

// Whether what was read is no HTTP. A peer that went or was too slow is not there to hear it.
bool IsMalformed(boost::system::error_code error) {
  return error.category() == make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

}  // namespace

HttpConnection::HttpConnection(HttpShard* shard, tcp::socket socket)
    : shard_(shard), stream_(std::move(socket)), buffer_(kBufferBytes) {
  ++shard_->shared->num_open;
  shard_->shared->handler->CountConnections(1);
  boost::system::error_code ignored;
  stream_.socket().set_option(tcp::no_delay(true), ignored);
  // What waits in the kernel for a client that does not read is bounded, too.
  stream_.socket().set_option(asio::socket_base::send_buffer_size(kHttpSendBufferBytes), ignored);
}

HttpConnection::~HttpConnection() {
  LeaveIdle();
  ReleaseBody();
  --shard_->shared->num_open;
  shard_->shared->handler->CountConnections(-1);
}

void HttpConnection::Start() { AwaitRequest(); }

void HttpConnection::Cut() {
  LeaveIdle();
  stream_.close();  // ends what is under way
}

void HttpConnection::LeaveIdle() {
  if (idle_) shard_->idle.erase(*idle_);
  idle_.reset();
}

void HttpConnection::AwaitRequest() {
  if (buffer_.size() > 0) return ReadHead();
  if (shard_->shared->draining) return Linger();
  idle_ = shard_->idle.insert(shard_->idle.end(), this);
  stream_.expires_after(milliseconds(kHttpIdleMsMax));
  stream_.async_read_some(buffer_.prepare(kReadBytes),
                          [self = shared_from_this()](Error error, size_t bytes) {
                            self->LeaveIdle();
                            if (error) return;
                            self->buffer_.commit(bytes);
                            self->ReadHead();
                          });
}

void HttpConnection::ReadHead() {
  is_head_ = is_http_1_0_ = false;
  parser_.emplace();
  parser_->header_limit(kHttpHeadBytesMax);
  parser_->body_limit(kHttpBodyBytesMax);
  stream_.expires_after(milliseconds(kHttpHeadMsMax));
  http::async_read_header(
      stream_, buffer_, *parser_,
      [self = shared_from_this()](Error error, size_t) { self->OnHead(error); });
}

// The request's head in our own form, and what framing needs to know of it.
void HttpConnection::TakeHead() {
  const auto& head = parser_->get();
  const absl::string_view target = View(head.target());
  request_ = {.method = std::string(View(head.method_string())),
              .path = std::string(target.substr(0, target.find('?')))};
  for (const auto& field : head) {
    request_.headers.emplace_back(absl::AsciiStrToLower(View(field.name_string())),
                                  std::string(View(field.value())));
  }
  is_head_ = head.method() == http::verb::head;
  is_http_1_0_ = head.version() < 11;
  std::lock_guard lock(mutex_);
  keep_alive_ = parser_->keep_alive();
}

void HttpConnection::OnHead(Error error) {
  if (error) return OnReadError(error);
  TakeHead();
  auto refusal = shard_->shared->handler->Refuse(request_);
  const bool has_body = !parser_->is_done();
  if (refusal && has_body) return Answer(*std::move(refusal));
  if (refusal) {
    BeginAnswer();
    return Reply(*std::move(refusal));
  }
  if (has_body && !ReserveBody()) {
    return Answer(shard_->shared->handler->Malformed(
        503, "too many bytes of other requests are on their way"));
  }
  if (!absl::EqualsIgnoreCase(request_.Header("expect"), "100-continue") || !has_body) {
    return ReadBody();
  }
  asio::async_write(stream_, asio::buffer(kContinue, sizeof(kContinue) - 1),
                    [self = shared_from_this()](Error e, size_t) {
                      if (!e) self->ReadBody();
                    });
}

bool HttpConnection::ReserveBody() {
  const auto length = parser_->content_length();
  body_reserved_ = length ? static_cast<int64_t>(*length) : kHttpBodyBytesMax;
  return (shard_->shared->body_bytes += body_reserved_) <= kHttpBodiesBytesMax;
}

void HttpConnection::ReleaseBody() {
  shard_->shared->body_bytes -= std::exchange(body_reserved_, 0);
}

void HttpConnection::ReadBody() {
  stream_.expires_after(milliseconds(kHttpBodyMsMax));
  http::async_read(stream_, buffer_, *parser_,
                   [self = shared_from_this()](Error error, size_t) { self->OnBody(error); });
}

void HttpConnection::OnBody(Error error) {
  if (error) return OnReadError(error);
  request_.body = std::move(parser_->get().body());
  parser_.reset();
  shard_->shared->handler->CountBytes(request_.body.size(), 0);
  BeginAnswer();
  ReadOn();
  shard_->shared->handler->Handle(std::move(request_), shared_from_this());
  ReleaseBody();
}

void HttpConnection::OnReadError(Error error) {
  ReleaseBody();
  if (!IsMalformed(error)) return;
  int status = 400;
  std::string why = absl::StrCat("not HTTP: ", error.message());
  if (error == http::error::header_limit) {
    status = 431;
    why = absl::StrCat("the request's head has more than ", kHttpHeadBytesMax, " bytes");
  } else if (error == http::error::body_limit) {
    status = 413;
    why = absl::StrCat("the request's body has more than ", kHttpBodyBytesMax, " bytes");
  }
  Answer(shard_->shared->handler->Malformed(status, why));
}

void HttpConnection::Answer(HttpReply reply) {
  {
    std::lock_guard lock(mutex_);
    keep_alive_ = false;  // what follows belongs to this request
  }
  BeginAnswer();
  Reply(std::move(reply));
}

void HttpConnection::BeginAnswer() {
  answering_ = true;
  ++shard_->shared->num_answering;
  std::lock_guard lock(mutex_);
  if (shard_->shared->draining) keep_alive_ = false;
  ended_ = chunked_ = blocked_ = false;
  unsent_.clear();
}

// Until the client sends more or goes.
void HttpConnection::ReadOn() {
  if (buffer_.size() > 0) return;  // the next request is there: it has not gone
  reading_on_ = true;
  stream_.expires_never();
  stream_.async_read_some(
      buffer_.prepare(kReadBytes),
      [self = shared_from_this()](Error error, size_t bytes) { self->OnReadOn(error, bytes); });
}

void HttpConnection::OnReadOn(Error error, size_t bytes) {
  reading_on_ = false;
  if (!error) buffer_.commit(bytes);
  if (!std::exchange(answered_, false)) {
    if (error) Gone();
    return;
  }
  if (!error || error == asio::error::operation_aborted) Next();
}

void HttpConnection::Reply(HttpReply reply) {
  std::lock_guard lock(mutex_);
  if (gone_ || ended_) return;
  Append(reply, Framing::kLength);
  if (!is_head_) unsent_ += reply.body;
  ended_ = true;
  Kick();
}

void HttpConnection::BeginStream(HttpReply head) {
  std::lock_guard lock(mutex_);
  if (gone_ || ended_) return;
  chunked_ = !is_http_1_0_;
  if (!chunked_) keep_alive_ = false;  // its end is the connection's
  Append(head, chunked_ ? Framing::kChunks : Framing::kConnection);
  Kick();
}

void HttpConnection::Append(const HttpReply& head, Framing framing) {
  absl::StrAppend(&unsent_, "HTTP/1.1 ", head.status, " ",
                  View(http::obsolete_reason(http::int_to_status(head.status))),
                  "\r\nContent-Type: ", head.content_type, "\r\n");
  if (framing == Framing::kChunks) absl::StrAppend(&unsent_, "Transfer-Encoding: chunked\r\n");
  if (framing == Framing::kLength) {
    absl::StrAppend(&unsent_, "Content-Length: ", head.body.size(), "\r\n");
  }
  if (!keep_alive_) absl::StrAppend(&unsent_, "Connection: close\r\n");
  if (keep_alive_ && is_http_1_0_) absl::StrAppend(&unsent_, "Connection: keep-alive\r\n");
  for (const auto& [name, value] : head.headers) {
    absl::StrAppend(&unsent_, name, ": ", value, "\r\n");
  }
  absl::StrAppend(&unsent_, "\r\n");
}

bool HttpConnection::Write(absl::string_view bytes) {
  std::lock_guard lock(mutex_);
  if (gone_ || ended_ || bytes.empty()) return true;
  if (chunked_) {
    absl::StrAppend(&unsent_, absl::Hex(bytes.size()), "\r\n", bytes, "\r\n");
  } else {
    absl::StrAppend(&unsent_, bytes);
  }
  Kick();
  blocked_ = unsent_.size() > kHttpUnsentBytesMax;
  return !blocked_;
}

void HttpConnection::EndStream() {
  std::lock_guard lock(mutex_);
  if (gone_ || ended_) return;
  if (chunked_) absl::StrAppend(&unsent_, "0\r\n\r\n");
  ended_ = true;
  Kick();
}

void HttpConnection::Watch(std::function<void()> on_gone, std::function<void()> on_writable) {
  {
    std::lock_guard lock(mutex_);
    if (!gone_) {
      on_gone_ = std::move(on_gone);
      on_writable_ = std::move(on_writable);
      return;
    }
  }
  on_gone();
}

void HttpConnection::Kick() {
  if (std::exchange(flushing_, true)) return;
  asio::post(stream_.get_executor(), [self = shared_from_this()] { self->Flush(); });
}

void HttpConnection::Flush() {
  bool ended = false;
  std::function<void()> on_writable;
  {
    std::lock_guard lock(mutex_);
    writing_.clear();
    written_ = 0;
    std::swap(writing_, unsent_);
    flushing_ = !gone_ && !writing_.empty();
    if (gone_) return;
    ended = ended_;
    if (std::exchange(blocked_, false)) on_writable = on_writable_;
  }
  if (on_writable) on_writable();
  if (!writing_.empty()) return WriteSome();
  if (ended) OnAnswered();
}

// Any progress gives it new time.
void HttpConnection::WriteSome() {
  stream_.expires_after(milliseconds(kHttpStuckMsMax));
  stream_.async_write_some(
      asio::buffer(writing_) + written_, [self = shared_from_this()](Error error, size_t bytes) {
        self->shard_->shared->handler->CountBytes(0, bytes);
        self->written_ += bytes;
        if (error) return self->Gone();
        self->written_ < self->writing_.size() ? self->WriteSome() : self->Flush();
      });
}

void HttpConnection::OnAnswered() {
  std::function<void()> on_gone, on_writable;  // end outside of the lock
  {
    std::lock_guard lock(mutex_);
    on_gone.swap(on_gone_);
    on_writable.swap(on_writable_);
  }
  if (std::exchange(answering_, false)) --shard_->shared->num_answering;
  if (!reading_on_) return Next();
  answered_ = true;
  stream_.cancel();  // OnReadOn goes on
}

void HttpConnection::Next() {
  const bool keep_alive = [this] {
    std::lock_guard lock(mutex_);
    return keep_alive_;
  }();
  keep_alive ? AwaitRequest() : Linger();
}

// Closed at once, a connection with unread bytes takes the answer with it.
void HttpConnection::Linger() {
  Error ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  stream_.expires_after(milliseconds(kHttpLingerMsMax));
  Discard();
}

void HttpConnection::Discard() {
  stream_.async_read_some(asio::buffer(discarded_),
                          [self = shared_from_this()](Error error, size_t) {
                            if (!error) self->Discard();
                          });
}

void HttpConnection::Gone() {
  std::function<void()> on_gone, on_writable;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(gone_, true)) return;
    unsent_.clear();
    on_gone.swap(on_gone_);
    on_writable.swap(on_writable_);
  }
  if (std::exchange(answering_, false)) --shard_->shared->num_answering;
  stream_.close();
  if (on_gone) on_gone();
}

}  // namespace pregate::gateway
