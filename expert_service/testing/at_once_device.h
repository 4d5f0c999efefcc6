// A card as the engine sees it, made of a device that computes in the host's memory: layers run at
// once, and copies go on beside the operations. It aborts where a copy could change a unit while
// operations still read it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "expert_service/testing/forwarding_device.h"

namespace pregate {

// Not thread-safe.
class AtOnceDevice final : public ForwardingDevice {
 public:
  struct Call {
    int num_layers = 0;
    int num_copies = 0;  // that were under way
    bool operator==(const Call&) const = default;
  };

  // A copy arrives when operations wait for it, or with every `looks`-th look at how many are done;
  // 0: with none.
  AtOnceDevice(std::unique_ptr<Device> inner, int looks)
      : ForwardingDevice(std::move(inner)), looks_(looks) {}

  // By the halves of a layer in turn.
  bool LayersAtOnce(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                    const FfnShape& ffn, const ExpertGroups& groups,
                    const LayerWorkspace& workspace, float* h) override;
  void FfnHalf(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
               const ExpertGroups& groups, const void* const* units,
               const LayerWorkspace& workspace, float* h) override;
  void ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out) override;
  // Of one store.
  std::unique_ptr<TransferQueue> MakeTransferQueue() override;

  // Of LayersAtOnce, since the last time.
  std::vector<Call> TakeCalls() { return std::exchange(calls_, {}); }
  // From now on LayersAtOnce says no.
  void Refuse() { refuses_ = true; }
  void SetLooks(int looks) { looks_ = looks; }
  // All copies under way arrive.
  void Arrive();

 private:
  class Queue;
  struct Copy {
    void* dst;
    const void* src;
    size_t bytes;
  };
  void NoteReads(const void* const* units, int num_experts);
  void ArriveOne();

  int looks_;
  int num_looks_ = 0;
  bool refuses_ = false;
  std::vector<Call> calls_;
  uint64_t num_marks_ = 0, num_done_ = 0;
  std::deque<Copy> copies_;  // under way
  // By unit: the first mark behind the operations that have read it.
  std::map<const void*, uint64_t> read_before_;
};

}  // namespace pregate
