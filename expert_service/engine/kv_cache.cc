#include "expert_service/engine/kv_cache.h"

#include <cstring>

#include "common/base/status.h"

namespace pregate {
namespace {

KvLayer BackboneShape(const ModelSpec& spec, KvType type, int32_t num_blocks) {
  return {nullptr, num_blocks, spec.num_kv_heads, spec.head_dim, type};
}

KvLayer ReplicaShape(const RouterSpec& router, int32_t num_blocks) {
  return {nullptr, num_blocks, router.num_heads, router.head_dim(), KvType::kF32};
}

int64_t LayerBytes(const Device& device, const KvLayer& shape) {
  return device.KvLayerBytes(shape.num_blocks, shape.num_kv_heads, shape.head_dim, shape.type);
}

}  // namespace

absl::StatusOr<std::unique_ptr<KvCache>> KvCache::Create(Device* device, const ModelSpec& spec,
                                                         KvType type, int32_t num_blocks,
                                                         bool with_replica) {
  std::unique_ptr<KvCache> cache(new KvCache);
  const auto add = [&](KvLayer layer, std::vector<KvLayer>& layers) -> absl::Status {
    ASSIGN_OR_RETURN(DeviceBuffer buffer, device->Allocate(LayerBytes(*device, layer)));
    layer.data = buffer.as<void>();
    // Its memory is taken now: a machine that has too little of it shows at start, not in a step.
    if (device->host_memory()) std::memset(layer.data, 0, buffer.bytes());
    layers.push_back(layer);
    cache->buffers_.push_back(std::move(buffer));
    return absl::OkStatus();
  };
  for (int l = 0; l < spec.num_layers; ++l) {
    RETURN_IF_ERROR(add(BackboneShape(spec, type, num_blocks), cache->backbone_));
  }
  for (int l = 0; with_replica && spec.router && l < spec.router->num_layers; ++l) {
    RETURN_IF_ERROR(add(ReplicaShape(*spec.router, num_blocks), cache->replica_));
  }
  return cache;
}

int64_t KvCache::Bytes(const Device& device, const ModelSpec& spec, KvType type, int32_t num_blocks,
                       bool with_replica) {
  int64_t bytes = spec.num_layers * LayerBytes(device, BackboneShape(spec, type, num_blocks));
  if (with_replica && spec.router) {
    bytes += spec.router->num_layers * LayerBytes(device, ReplicaShape(*spec.router, num_blocks));
  }
  return bytes;
}

}  // namespace pregate
