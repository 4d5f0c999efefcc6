// How a request to the metrics port is read, within its limits and from any stream, and answered.
// Brings Beast along: for http_server.cc, and for what reads requests without a socket.
#pragma once

#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>

#include "absl/strings/string_view.h"
#include "common/base/limits.h"
#include "common/http/http_server.h"

namespace pregate {

// For one connection; not thread-safe.
struct HttpRequestReader {
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  // Then `buffer` and `parser` read the next request. What came behind the last one is its begin.
  void Begin() {
    parser.emplace();
    parser->header_limit(kMetricsHeaderBytesMax);
    parser->body_limit(kMetricsRequestBytesMax);
  }

  boost::beast::flat_buffer buffer{kMetricsHeaderBytesMax + kMetricsRequestBytesMax};
  std::optional<Parser> parser;
};

// Whether what was read is no HTTP, which its sender is told. A peer that went or was too slow is
// not there to hear it.
inline bool IsMalformed(boost::system::error_code error) {
  namespace http = boost::beast::http;
  return error.category() == make_error_code(http::error::bad_method).category() &&
         error != http::error::end_of_stream && error != http::error::partial_message;
}

inline absl::string_view PathOf(const HttpRequestReader::Parser::value_type& request) {
  const absl::string_view target(request.target().data(), request.target().size());
  return target.substr(0, target.find('?'));
}

inline HttpAnswer AnswerTo(const HttpRequestReader::Parser::value_type& request,
                           const HttpServer::Get& get) {
  if (request.method() != boost::beast::http::verb::get) {
    return {.status = 405, .body = "only GET\n"};
  }
  return get(PathOf(request));
}

}  // namespace pregate
