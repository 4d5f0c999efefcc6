// A full mesh of Gloo connections, made without gloo::rendezvous::Store: its connectFullMesh wants
// keys one by one, while all addresses of a meeting come together.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/collective/meeting.h"
#include "gloo/context.h"
#include "gloo/transport/device.h"

namespace pregate {

class GlooContext final : public gloo::Context {
 public:
  GlooContext(int rank, int world_size) : gloo::Context(rank, world_size) {}

  // Meets the other ranks and connects to each. May throw Gloo's exceptions.
  absl::Status Connect(const std::shared_ptr<gloo::transport::Device>& device, Meeting* meeting,
                       const std::string& rendezvous, absl::Duration timeout, std::stop_token stop);
};

}  // namespace pregate
