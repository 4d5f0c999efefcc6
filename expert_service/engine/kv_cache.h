// The paged KV of one rank: the backbone's layers and the router replica's, all under the same
// block tables.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "common/model/spec/spec.h"

namespace pregate {

// Owns the blocks' memory; the device outlives it.
class KvCache {
 public:
  // The backbone's KV has `type`, the replica's is f32. Without a router in the spec
  // there is no replica.
  static absl::StatusOr<std::unique_ptr<KvCache>> Create(Device* device, const ModelSpec& spec,
                                                         KvType type, int32_t num_blocks,
                                                         bool with_replica);
  static int64_t Bytes(const Device& device, const ModelSpec& spec, KvType type, int32_t num_blocks,
                       bool with_replica);

  absl::Span<const KvLayer> backbone() const { return backbone_; }
  absl::Span<const KvLayer> replica() const { return replica_; }

 private:
  KvCache() = default;

  std::vector<KvLayer> backbone_, replica_;
  std::vector<DeviceBuffer> buffers_;
};

}  // namespace pregate
