// Accepts the connections of a gRPC server. gRPC 1.51's own listener stops for good when the system
// has no descriptor for it, counts nothing, and cannot end a connection that costs too much; so it
// gets its connections from here.
#pragma once

#include <grpcpp/server_builder.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "common/http/listen_socket.h"
#include "common/rpc/reset_counter.h"

namespace pregate {

// One thread of its own. Stop and the Note functions are thread-safe.
class Acceptor {
 public:
  // At most `connections_max` are open: then one makes room that has not shaken hands, else the one
  // that has been silent for the longest. `grpc` takes them once the server runs.
  Acceptor(ListenSockets sockets,
           std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc,
           int connections_max);
  ~Acceptor();  // Stop

  // Descriptors of the process that one connection takes: gRPC's, and ours to end it by.
  static constexpr int kDescriptorsEach = 2;

  const Address& bound() const;
  // Closes the listening sockets; what is open stays.
  void Stop();

  // Between the two what is written to a connection waits for what is written next, where so many
  // messages are enough for the connections that are open: one packet and one wake-up of the other side
  // in place of many. From one thread.
  void HoldWrites(size_t num_messages);
  void ReleaseWrites();

  // A call of `peer`, as grpc::ServerContext names it, was cancelled. True when that was one too
  // many: its connection is cut.
  bool NoteReset(const std::string& peer);
  // The same of calls that are told of from their beginning (common/rpc/reset_counter.h). A
  // connection is named by its number, 0 where it has none: ends may come when another has its
  // peer's name.
  uint64_t ConnectionOf(const std::string& peer) const;
  bool NoteBegin(uint64_t connection);
  bool NoteEnd(uint64_t connection, bool cancelled);

 private:
  struct State;

  bool NoteCall(uint64_t connection, absl::FunctionRef<bool(ResetAllowance&)> allows);

  const std::unique_ptr<State> state_;
};

}  // namespace pregate
