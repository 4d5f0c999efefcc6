// One HTTP request and its answer, as the front door's handler sees them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "gateway_service/core/api_error.h"

namespace pregate::gateway {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method, path;  // the path without its query
  HttpHeaders headers;       // names in lower case
  std::string body;

  absl::string_view Header(absl::string_view name) const;  // the first of that name; empty: none
};

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  HttpHeaders headers;  // beside type, length and connection
};

// With "Retry-After" in whole seconds and "Retry-After-Ms", where the error has a time.
HttpReply ErrorReply(const ApiError& error, Dialect dialect, HttpHeaders headers = {});

// Call Reply once, or BeginStream, Write any number of times and EndStream. Thread-safe; nothing
// blocks. What comes after the client has gone is dropped.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual void Reply(HttpReply reply) = 0;
  virtual void BeginStream(HttpReply head) = 0;  // its body is not sent
  // False: the client does not read as fast, and on_writable will be called once there is room again.
  // Until then there should be no more.
  virtual bool Write(absl::string_view bytes) = 0;
  virtual void EndStream() = 0;
  // Called on an HTTP thread, under no lock: `on_gone` once, when the client has gone or is cut before
  // the answer's end (at once, if it has). Both are forgotten at the answer's end.
  virtual void Watch(std::function<void()> on_gone, std::function<void()> on_writable) = 0;
};

// What is behind an HttpServer, which it outlives. Called on HTTP threads; must be quick.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Before the body is read: a reply refuses the request.
  virtual std::optional<HttpReply> Refuse(const HttpRequest& head) = 0;
  virtual void Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) = 0;
  // What is no HTTP, or beyond a limit.
  virtual HttpReply Malformed(int status, const std::string& why) = 0;
  virtual void CountBytes(size_t received, size_t sent) = 0;
  virtual void CountConnections(int change) = 0;
};

}  // namespace pregate::gateway
