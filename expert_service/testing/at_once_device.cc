#include "expert_service/testing/at_once_device.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"

namespace pregate {

class AtOnceDevice::Queue final : public TransferQueue {
 public:
  explicit Queue(AtOnceDevice* device) : device_(*device) {}

  uint64_t Mark() override { return ++device_.num_marks_; }
  uint64_t Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) override {
    PREGATE_CHECK(after <= device_.num_marks_, "mark ", after, " of ", device_.num_marks_);
    const auto read = device_.read_before_.find(dst);
    PREGATE_CHECK(read == device_.read_before_.end() || after >= read->second, "a copy after mark ",
                  after, " into a unit that is read before mark ", read->second);
    device_.copies_.push_back({dst, host_src, bytes});
    return device_.num_done_ + device_.copies_.size();
  }
  void Await(uint64_t number) override {
    while (device_.num_done_ < number) device_.ArriveOne();
  }
  uint64_t num_done() override {
    const bool arrives = device_.looks_ > 0 && ++device_.num_looks_ % device_.looks_ == 0;
    if (arrives && !device_.copies_.empty()) device_.ArriveOne();
    return device_.num_done_;
  }
  absl::Duration stalled() override { return absl::ZeroDuration(); }
  std::vector<TransferSpan> TakeSpans() override { return {}; }

 private:
  AtOnceDevice& device_;
};

std::unique_ptr<TransferQueue> AtOnceDevice::MakeTransferQueue() {
  return std::make_unique<Queue>(this);
}

bool AtOnceDevice::LayersAtOnce(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                                const FfnShape& ffn, const ExpertGroups& groups,
                                const LayerWorkspace& workspace, float* h) {
  if (refuses_) return false;
  calls_.push_back({static_cast<int>(layers.size()), static_cast<int>(copies_.size())});
  for (const LayerCall& layer : layers) {
    AttentionHalf(batch, layer.attention, layer.attention_weights, layer.kv, workspace, h);
    FfnHalf(batch.rows, ffn, layer.ffn, groups, layer.units, workspace, h);
  }
  return true;
}

void AtOnceDevice::FfnHalf(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                           const ExpertGroups& groups, const void* const* units,
                           const LayerWorkspace& workspace, float* h) {
  if (weights.own.width > 0) NoteReads(units, groups.num_experts);
  ForwardingDevice::FfnHalf(rows, shape, weights, groups, units, workspace, h);
}

void AtOnceDevice::ExpertFfn(RowCount rows, ActType act, const void* act_in,
                             const ExpertGroups& groups, const void* const* units,
                             const UnitShape& shape, float* out) {
  NoteReads(units, groups.num_experts);
  ForwardingDevice::ExpertFfn(rows, act, act_in, groups, units, shape, out);
}

void AtOnceDevice::NoteReads(const void* const* units, int num_experts) {
  for (int e = 0; e < num_experts; ++e) {
    if (units[e] == nullptr) continue;
    read_before_[units[e]] = num_marks_ + 1;
    PREGATE_CHECK(std::none_of(copies_.begin(), copies_.end(),
                               [&](const Copy& copy) { return copy.dst == units[e]; }),
                  "expert ", e, " is read before it has arrived");
  }
}

void AtOnceDevice::Arrive() {
  while (!copies_.empty()) ArriveOne();
}

void AtOnceDevice::ArriveOne() {
  const Copy copy = copies_.front();
  if (copy.bytes > 0) std::memcpy(copy.dst, copy.src, copy.bytes);
  copies_.pop_front();
  ++num_done_;
}

}  // namespace pregate
