// ExpertWorker.Meet: the ranks of a new group find each other at the worker of the lowest one.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>

#include "common/collective/rendezvous_table.h"
#include "pregate/v1/worker.pb.h"

namespace pregate {

// Thread-safe; outlives its server. Calls wait in the table, not on a thread. A call ends with the
// meeting, when its timeout_ms is over, or when its client is gone; both end the meeting for all.
class MeetService {
 public:
  // Only meetings that were opened in `table` take place; their number is the table's limit.
  explicit MeetService(std::shared_ptr<RendezvousTable> table) : table_(std::move(table)) {}

  grpc::ServerUnaryReactor* Meet(const v1::MeetRequest* request, v1::MeetResponse* response);

 private:
  const std::shared_ptr<RendezvousTable> table_;
};

}  // namespace pregate
