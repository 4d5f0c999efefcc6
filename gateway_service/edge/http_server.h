// The front door's HTTP/1.1 server: a few threads for any number of connections, none of which holds
// another up. One thread accepts too, and deals connections to all of them in turn.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http/listen_socket.h"
#include "gateway_service/edge/http_exchange.h"

namespace pregate::gateway {

class HttpServer {
 public:
  // Serves on sockets that are bound already. `handler` outlives the server. At most
  // kHttpConnectionsMax are open: then the one that has been silent for the longest between two
  // requests makes room.
  static std::unique_ptr<HttpServer> Start(ListenSockets sockets, HttpHandler* handler,
                                           int threads);
  // Cuts what is open. REQUIRES: nobody answers a request any more.
  ~HttpServer();

  const Address& bound() const;  // with the port that was taken
  // Accepts nothing more, closes what is silent; what is under way goes on, then its connection
  // ends. Idempotent.
  void Drain();
  // Whether everything is answered before `timeout` has passed.
  bool AwaitAnswered(absl::Duration timeout);

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace pregate::gateway
