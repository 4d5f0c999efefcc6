// What a link needs of a worker: WorkerLoop's public face as an interface, so that the gRPC edge is
// tested without a model.
#pragma once

#include "expert_service/engine/worker_links.h"

namespace pregate {

// Thread-safe; see WorkerLoop for the contract of each call.
class WorkerPort {
 public:
  virtual ~WorkerPort() = default;
  virtual LinkId Attach(WorkerLinks::Send send) = 0;
  virtual bool Submit(LinkId link, ToWorker message) = 0;
  virtual void Disconnected(LinkId link) = 0;
  virtual LinkId holder() const = 0;
};

}  // namespace pregate
