// The experts' units of one rank: images in host memory, some of them in device slots, copies on
// the way between the two.
//
//   whole     (slots 0)   every unit that the rank holds lies on the device; nothing ever moves
//   slotted   (slots N)   N x layers slots of the largest unit's size; images stay in host memory
//
// A step says which experts it needs. Layers whose units are all there run in one go (RunLayers);
// at any other ForLayer runs the experts' part over the units that are there, in waves where they do
// not all fit, while the copies for what follows go on beside it. The forward pass sees a unit's
// address only while the unit is leased, and a copy into its slot waits for a mark behind what reads it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/core/residency.h"
#include "expert_service/engine/image_loader.h"
#include "expert_service/engine/image_reader.h"
#include "expert_service/engine/progress.h"

namespace pregate {

// What of a rank's expert units lies on its device.
struct ResidencyStats {
  int64_t units = 0;  // resident
  int64_t slots = 0;  // units that fit at once; as many as are held where all fit
  int64_t bytes = 0;  // device memory of the resident ones
  // Since the start, between steps too: copies into slots, units that gave way.
  int64_t loads = 0;
  int64_t evictions = 0;
  int64_t demand_bytes = 0, ahead_bytes = 0;  // of the copies: what a step waits for, and the rest
  bool operator==(const ResidencyStats&) const = default;
};

// Not thread-safe: the thread that enqueues operations. Device and checkpoint outlive it.
class ExpertStore {
 public:
  // `expert_slots` x layers slots; 0: whole. `load_threads` read units; 0: one a hardware thread.
  // REQUIRES: an MoE. Nothing is held yet.
  static absl::StatusOr<std::unique_ptr<ExpertStore>> Create(const Checkpoint* checkpoint,
                                                             Device* device, WeightFormat format,
                                                             int32_t expert_slots,
                                                             int32_t load_threads = 0);
  // The size of a slot: the largest unit's.
  static int64_t SlotBytes(const Device& device, const ModelSpec& spec, WeightFormat format);

  // From now on the rank runs these experts. Reads and packs the units that were never held before;
  // what was stays in memory. After an error (ABORTED when `progress` says so) call it again before the
  // next step.
  absl::Status Hold(absl::Span<const ExpertId> experts, const LoadProgress& progress);

  // The scheduler's list. Units that the rank does not hold are left out.
  void SetWanted(absl::Span<const UnitId> units, int32_t load_first);

  // REQUIRES: every expert is held.
  void BeginStep(std::vector<ExpertId> expert_set);
  // Calls `run` with a device array [num_experts] of units, null where a unit is not part of the
  // wave; once for each wave, each unit of the step's expert set in exactly one. Nothing to do for
  // a layer without own neurons.
  using RunWave = absl::FunctionRef<void(const void* const* units)>;
  void ForLayer(int32_t layer, RunWave run);
  // Where all of the layer's set are there now, `run` has them in one wave and that was the layer;
  // else nothing happens and the answer is false. REQUIRES: the layer has own neurons.
  bool RunAtOnce(int32_t layer, RunWave run);
  // The same for whole layers in a row: where all of the set are there now at layer `first`, and
  // perhaps at some behind it, `run` has the number of these layers, finds the array of each by
  // units(layer), and says whether it has enqueued them. Returns how many have run; 0: nothing has
  // happened. Layers without own neurons count as there. While a load of the step waits for a slot it
  // is one layer at a time, so that slots become free as early as they can.
  using RunCount = absl::FunctionRef<bool(int32_t count)>;
  int32_t RunLayers(int32_t first, RunCount run);
  const void* const* units(int32_t layer) const {
    return tables_.as<const void*>() + int64_t{layer} * spec_.num_experts;
  }
  // Starts what is wanted.
  void EndStep();
  // Between steps: takes note of what has arrived, starts what is wanted.
  void Tick();

  // What one of the largest units takes to arrive, the link being free: the least of a few copies.
  // Nothing is resident then, and residency's numbers and counts begin anew. REQUIRES: not whole(),
  // an expert is held, no step runs.
  absl::StatusOr<absl::Duration> TimeLoad(Clock* clock);

  bool whole() const { return residency_ == nullptr; }
  // Whether all units of the expert are on the device now, and how many experts fit at once.
  // REQUIRES: not whole().
  bool IsResident(ExpertId expert) const;
  int32_t num_fitting() const { return residency_->num_slots() / spec_.num_layers; }
  // REQUIRES: an expert is held.
  ExpertId first_held() const {
    return static_cast<ExpertId>(std::find(held_.begin(), held_.end(), true) - held_.begin());
  }
  UnitShape shape(int32_t layer) const { return {spec_.own_width[layer], spec_.hidden, format_}; }
  std::vector<UnitId> ResidentUnits() const;
  std::vector<UnitEvent> TakeEvents();
  ResidencyCounts counts() const;
  ResidencyStats stats() const;
  // How long the step's operations have waited for copies, ever; complete after
  // Device::Synchronize.
  absl::Duration stalled() const;
  // Copies and waits for them that have ended since the last call.
  std::vector<TransferSpan> TakeTransfers() {
    return whole() ? std::vector<TransferSpan>() : queue_->TakeSpans();
  }
  // Device memory that units may take.
  int64_t device_bytes() const { return device_bytes_; }
  // Of its packed form; 0: it was never held.
  size_t unit_bytes(const UnitId& unit) const { return UnitAt(unit).image.bytes(); }

 private:
  struct Unit {
    DeviceBuffer image;  // whole: on the device; slotted: on the host; empty: never held
    uint64_t copy = 0;   // the last copy into its slot
  };

  ExpertStore(const Checkpoint* checkpoint, Device* device, WeightFormat format);
  Unit& UnitAt(const UnitId& unit) { return units_[unit.layer * spec_.num_experts + unit.expert]; }
  const Unit& UnitAt(const UnitId& unit) const {
    return units_[unit.layer * spec_.num_experts + unit.expert];
  }
  bool has_units(int32_t layer) const { return spec_.own_width[layer] > 0; }
  absl::Status CreateSlots(int32_t expert_slots);
  absl::StatusOr<ImageLoad> LoadOf(const UnitId& unit);
  absl::Status ReadUnits(absl::Span<const UnitId> units, const LoadProgress& progress);
  void PutUnits(int32_t first, int32_t end, absl::Span<const ExpertId> experts);
  void Pump();
  void NoteArrivals(uint64_t num_done);
  std::vector<ExpertId> NextWave(int32_t layer, absl::Span<const ExpertId> left);
  int32_t RunThere(int32_t first, int32_t most, RunCount run);
  bool IsThere(int32_t layer) const;
  bool RunUnits(int32_t first, int32_t end, absl::Span<const ExpertId> experts, RunCount run);
  template <class F>
  void ForUnits(int32_t first, int32_t end, absl::Span<const ExpertId> experts, const F& f) const {
    for (int32_t layer = first; layer < end; ++layer) {
      if (!has_units(layer)) continue;
      for (const ExpertId e : experts) f(UnitId{layer, e});
    }
  }
  void* SlotAddress(int32_t slot) const { return slots_.as<char>() + slot * slot_bytes_; }
  // REQUIRES: on the device.
  const void* AddressOf(const UnitId& unit) const {
    return whole() ? UnitAt(unit).image.as<void>() : SlotAddress(residency_->slot(unit));
  }

  const Checkpoint& checkpoint_;
  const ModelSpec& spec_;
  Device& device_;
  const ImageReader reader_;
  const WeightFormat format_;
  int32_t load_threads_ = 0;
  std::vector<bool> held_;               // [experts]
  std::vector<Unit> units_;              // [layers * experts]
  DeviceBuffer tables_;                  // [layers, experts] addresses or null
  std::vector<const void*> table_rows_;  // scratch: some of its rows
  std::vector<ExpertId> expert_set_;
  int64_t device_bytes_ = 0;
  int64_t num_whole_hits_ = 0;
  int64_t num_whole_units_ = 0;  // on the device

  // Slotted.
  int64_t slot_bytes_ = 0;
  DeviceBuffer slots_;
  std::vector<uint64_t> slot_marks_;  // [slots] where the stream was done with what lies there
  std::unique_ptr<Residency> residency_;
  int64_t demand_bytes_ = 0, ahead_bytes_ = 0;  // copied
  std::map<uint64_t, UnitId> copying_;          // by copy number
  std::unique_ptr<TransferQueue> queue_;        // the last: its end waits for copies
};

}  // namespace pregate
