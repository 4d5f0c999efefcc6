// gRPC's own log lines (a handshake that OpenSSL refuses, a socket that cannot be bound) into ours,
// held to a rate, since a peer can cause them at will; but never the line before gRPC aborts.
#pragma once

#include "common/base/clock.h"
#include "common/telemetry/log.h"

namespace pregate {

// gRPC has one log for the whole process; so at most one of these lives at a time, made in main
// before anything of gRPC. Without it gRPC writes to stderr itself, without a limit.
class GrpcLog {
 public:
  // `log` outlives the object.
  GrpcLog(const Log* log, Clock* clock);
  ~GrpcLog();
  GrpcLog(const GrpcLog&) = delete;
  GrpcLog& operator=(const GrpcLog&) = delete;
};

}  // namespace pregate
