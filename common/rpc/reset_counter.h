// Tells of every call of a server, whichever service it names, that was cancelled: a peer that opens
// calls and resets them at once costs much more than it pays.
#pragma once

#include <grpcpp/server_builder.h>
#include <grpcpp/server_context.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace pregate {

// What one connection may cancel: kConnectionResetsMax calls at once, which come back at
// kConnectionResetsPerSecond. It counts calls and not a rate: a busy machine works a flood off
// slowly, and pays for it all the same. Not thread-safe.
class ResetAllowance {
 public:
  // One more call was cancelled. False where the connection has had enough.
  bool Allow(absl::Time now);

  // The same of calls whose service tells of their ends, which come late in a flood. A connection
  // has at most kClientStreamsMax calls, so what has begun beyond them was cancelled.
  bool Begin();
  bool End(bool cancelled, absl::Time now);

 private:
  double used_ = 0;  // calls
  absl::Time last_ = absl::InfinitePast();
  int num_open_ = 0;
};

// Told of calls, on gRPC's threads, until the server has ended. `peer` is as grpc::ServerContext
// names it.
class CallWatch {
 public:
  virtual ~CallWatch() = default;
  virtual void OnReset(const std::string& peer) = 0;
  // The number of the connection, for OnEnd.
  virtual uint64_t OnBegin(const std::string& peer) = 0;
  virtual void OnEnd(const std::string& peer, uint64_t connection, bool cancelled) = 0;
};

// Methods whose service tells of each call itself. Others are watched by an interceptor, and a call
// that has one sends each of its messages through gRPC's queue a second time: too much where there
// is a message a token.
class SelfToldCalls {
 public:
  // By their full names: "/pregate.v1.Inference/Generate".
  explicit SelfToldCalls(std::vector<std::string> methods) : methods_(std::move(methods)) {}

  // Where each call of these methods begins. What it returns is called once, in OnDone of the call's
  // reactor, as long as `call` is there. Thread-safe.
  std::function<void()> Begin(const grpc::ServerContextBase& call) const;

  bool Has(absl::string_view method) const;
  // REQUIRES: no call is open.
  void TellTo(CallWatch* watch) { watch_ = watch; }

 private:
  const std::vector<std::string> methods_;
  CallWatch* watch_ = nullptr;  // null: no server counts
};

// `watch` outlives the server, as does `self_told` (null: there are none).
void CountResets(grpc::ServerBuilder& builder, CallWatch* watch, SelfToldCalls* self_told);

}  // namespace pregate
