// Runs route steps on a device: stages tokens, positions and block tables, calls the network, reads
// routes back.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "common/router/router_net.h"
#include "router_service/core/route_queue.h"

namespace pregate {

struct RouterExecutorOptions {
  int context_tokens_max = 0;  // tokens in one session
  int kv_blocks = 0;
};

// Not thread-safe. Borrows the device. Everything is allocated at start.
class RouterExecutor {
 public:
  // A step has at most net->tokens_max() tokens.
  static absl::StatusOr<std::unique_ptr<RouterExecutor>> Create(
      std::unique_ptr<RouterNet> net, Device& device, const RouterExecutorOptions& options);

  // routes [step.num_tokens], in the order of the rows. logits, unless null: [step.num_tokens,
  // experts]. An error is the device's own. REQUIRES: step.num_tokens <= net().tokens_max(), rows
  // fit the context.
  absl::Status Run(const RouteStep& step, std::vector<ExpertId>* routes,
                   std::vector<float>* logits);

  const RouterNet& net() const { return *net_; }
  size_t kv_bytes() const { return net_->KvBytes(options_.kv_blocks); }

 private:
  // One host array and the device array that it is uploaded to.
  struct Staged {
    std::vector<int32_t> host;
    DeviceBuffer device;
  };

  RouterExecutor(Device& device, const RouterExecutorOptions& options,
                 std::unique_ptr<RouterNet> net);
  absl::Status Allocate();
  absl::Status AllocateStaged(Staged& staged, size_t size);
  void Stage(const RouteStep& step);
  void UploadStaged(const Staged& staged, size_t size);

  Device& device_;
  const RouterExecutorOptions options_;
  const int blocks_per_session_;
  std::unique_ptr<RouterNet> net_;
  std::vector<DeviceBuffer> kv_buffers_;
  std::vector<KvLayer> kv_;
  Staged num_tokens_;    // [1]
  Staged token_ids_;     // [tokens_max]
  Staged positions_;     // [tokens_max]
  Staged row_of_token_;  // [tokens_max] the token's row in block_tables_
  Staged block_tables_;  // [tokens_max rows, blocks_per_session_]
  DeviceBuffer routes_;  // [tokens_max]
  DeviceBuffer logits_;  // [tokens_max, experts]
};

}  // namespace pregate
