#include "expert_service/engine/expert_store.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"

namespace pregate {
ExpertStore::ExpertStore(const Checkpoint* checkpoint, Device* device, WeightFormat format)
    : checkpoint_(*checkpoint),
      spec_(checkpoint->spec()),
      device_(*device),
      reader_(checkpoint),
      format_(format),
      held_(spec_.num_experts),
      units_(size_t(spec_.num_layers) * spec_.num_experts) {}

absl::StatusOr<std::unique_ptr<ExpertStore>> ExpertStore::Create(const Checkpoint* checkpoint,
                                                                 Device* device,
                                                                 WeightFormat format,
                                                                 int32_t expert_slots,
                                                                 int32_t load_threads) {
  std::unique_ptr<ExpertStore> store(new ExpertStore(checkpoint, device, format));
  store->load_threads_ = load_threads;
  ASSIGN_OR_RETURN(store->tables_, device->Allocate(store->units_.size() * sizeof(const void*)));
  if (expert_slots > 0) RETURN_IF_ERROR(store->CreateSlots(expert_slots));
  return store;
}

int64_t ExpertStore::SlotBytes(const Device& device, const ModelSpec& spec, WeightFormat format) {
  const int width = *std::max_element(spec.own_width.begin(), spec.own_width.end());
  return width == 0 ? 0 : static_cast<int64_t>(device.UnitBytes({width, spec.hidden, format}));
}

absl::Status ExpertStore::CreateSlots(int32_t expert_slots) {
  const int32_t num_slots = expert_slots * spec_.num_layers;
  slot_bytes_ = SlotBytes(device_, spec_, format_);
  device_bytes_ = num_slots * slot_bytes_;
  ASSIGN_OR_RETURN(slots_, device_.Allocate(device_bytes_));
  slot_marks_.resize(num_slots);
  residency_ = std::make_unique<Residency>(spec_.num_layers, spec_.num_experts, num_slots);
  queue_ = device_.MakeTransferQueue();
  return absl::OkStatus();
}

absl::Status ExpertStore::Hold(absl::Span<const ExpertId> experts, const LoadProgress& progress) {
  std::fill(held_.begin(), held_.end(), false);
  std::vector<UnitId> missing;
  for (int32_t layer = 0; layer < spec_.num_layers; ++layer) {
    for (ExpertId expert : experts) {
      held_[expert] = true;
      const UnitId unit = {layer, expert};
      if (has_units(layer) && UnitAt(unit).image.bytes() == 0) missing.push_back(unit);
    }
  }
  RETURN_IF_ERROR(ReadUnits(missing, progress));
  if (whole()) PutUnits(0, spec_.num_layers, experts);
  return device_.Synchronize();
}

// Those that were read before an error stay.
absl::Status ExpertStore::ReadUnits(absl::Span<const UnitId> units, const LoadProgress& progress) {
  std::vector<ImageLoad> loads;
  absl::Status status;
  for (const UnitId& unit : units) {
    absl::StatusOr<ImageLoad> load = LoadOf(unit);
    status = load.status();
    if (!status.ok()) break;
    loads.push_back(*std::move(load));
  }
  if (status.ok()) {
    status = LoadImages(device_, {.threads = load_threads_, .on_host = !whole()},
                        absl::MakeSpan(loads), progress);
  }
  for (size_t i = 0; i < loads.size(); ++i) {
    if (!loads[i].done) {
      UnitAt(units[i]) = Unit();
    } else if (whole()) {
      device_bytes_ += static_cast<int64_t>(UnitAt(units[i]).image.bytes());
      ++num_whole_units_;
    }
  }
  return status;
}

// Gives the unit its memory.
absl::StatusOr<ImageLoad> ExpertStore::LoadOf(const UnitId& id) {
  Unit& unit = UnitAt(id);
  const size_t bytes = device_.UnitBytes(shape(id.layer));
  ASSIGN_OR_RETURN(unit.image, whole() ? device_.Allocate(bytes) : device_.AllocateHost(bytes));
  const std::string prefix =
      absl::StrCat("model.layers.", id.layer, ".mlp.experts.", id.expert, ".");
  return ImageLoad{[this, prefix, shape = shape(id.layer), image = unit.image.as<void>()](
                       ImageWriter& writer, LoadMeter& meter) {
    return reader_.ReadUnit(prefix, shape, writer, image, meter);
  }};
}

// The device's arrays of layers first..end - 1: these experts' units, null for all others.
void ExpertStore::PutUnits(int32_t first, int32_t end, absl::Span<const ExpertId> experts) {
  table_rows_.assign(size_t(end - first) * spec_.num_experts, nullptr);
  ForUnits(first, end, experts, [&](const UnitId& unit) {
    table_rows_[size_t(unit.layer - first) * spec_.num_experts + unit.expert] = AddressOf(unit);
  });
  device_.Upload(const_cast<const void**>(units(first)), table_rows_.data(),
                 table_rows_.size() * sizeof(const void*));
}

void ExpertStore::SetWanted(absl::Span<const UnitId> units, int32_t load_first) {
  if (whole()) return;
  std::vector<UnitId> held;
  int32_t held_first = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    if (!held_[units[i].expert] || !has_units(units[i].layer)) continue;
    held.push_back(units[i]);
    if (static_cast<int32_t>(i) < load_first) ++held_first;
  }
  residency_->SetWanted(held, held_first);
}

void ExpertStore::BeginStep(std::vector<ExpertId> expert_set) {
  expert_set_ = std::move(expert_set);
  if (whole()) return;
  std::vector<UnitId> demand;
  ForUnits(0, spec_.num_layers, expert_set_, [&](const UnitId& unit) { demand.push_back(unit); });
  residency_->BeginStep(std::move(demand));
  Pump();
}

void ExpertStore::ForLayer(int32_t layer, RunWave run) {
  if (!has_units(layer)) return;
  const auto run_wave = [&](int32_t) {
    run(units(layer));
    return true;
  };
  if (whole()) {
    RunUnits(layer, layer + 1, expert_set_, run_wave);
    return;
  }
  residency_->BeginLayer(layer);
  std::vector<ExpertId> left = expert_set_;
  while (!left.empty()) {
    Pump();
    const std::vector<ExpertId> wave = NextWave(layer, left);
    if (wave.empty()) {
      // Copies for others hold the slots that could give way.
      PREGATE_CHECK(!copying_.empty(), "layer ", layer, " has no slot");
      queue_->Await(copying_.begin()->first);
      NoteArrivals(copying_.begin()->first);
      continue;
    }
    RunUnits(layer, layer + 1, wave, run_wave);
    std::erase_if(left,
                  [&](ExpertId e) { return std::find(wave.begin(), wave.end(), e) != wave.end(); });
  }
  Pump();
}

bool ExpertStore::RunAtOnce(int32_t layer, RunWave run) {
  return RunThere(layer, layer + 1, [&](int32_t) {
           run(units(layer));
           return true;
         }) == 1;
}

int32_t ExpertStore::RunLayers(int32_t first, RunCount run) {
  return RunThere(first, spec_.num_layers, run);
}

// RunLayers, before layer `most`.
int32_t ExpertStore::RunThere(int32_t first, int32_t most, RunCount run) {
  if (!whole()) {
    residency_->BeginLayer(first);
    Pump();
    if (residency_->lacks_slot()) most = first + 1;
  }
  int32_t end = first;
  while (end < most && IsThere(end)) ++end;
  if (end == first || !RunUnits(first, end, expert_set_, run)) return 0;
  if (!whole()) {
    residency_->BeginLayer(end - 1);
    Pump();
  }
  return end - first;
}

bool ExpertStore::IsThere(int32_t layer) const {
  return whole() || !has_units(layer) ||
         std::all_of(expert_set_.begin(), expert_set_.end(), [&](ExpertId e) {
           return residency_->state({layer, e}) == UnitState::kResident;
         });
}

// All that are there; else the one that arrives first.
std::vector<ExpertId> ExpertStore::NextWave(int32_t layer, absl::Span<const ExpertId> left) {
  std::vector<ExpertId> resident;
  std::optional<ExpertId> first;
  for (ExpertId e : left) {
    const UnitState state = residency_->state({layer, e});
    if (state == UnitState::kResident) resident.push_back(e);
    if (state != UnitState::kLoading) continue;
    if (!first || UnitAt({layer, e}).copy < UnitAt({layer, *first}).copy) first = e;
  }
  if (!resident.empty() || !first) return resident;
  const uint64_t copy = UnitAt({layer, *first}).copy;
  queue_->Await(copy);
  NoteArrivals(copy);
  return {*first};
}

// Whether `run` has enqueued what reads the units of these experts in layers first..end - 1. If not,
// they are as they were.
bool ExpertStore::RunUnits(int32_t first, int32_t end, absl::Span<const ExpertId> experts,
                           RunCount run) {
  if (whole()) {
    const bool ran = run(end - first);
    if (ran) ForUnits(first, end, experts, [&](const UnitId&) { ++num_whole_hits_; });
    return ran;
  }
  ForUnits(first, end, experts, [&](const UnitId& unit) { residency_->Lease(unit); });
  PutUnits(first, end, experts);
  const bool ran = run(end - first);
  const uint64_t mark = ran ? queue_->Mark() : 0;
  ForUnits(first, end, experts, [&](const UnitId& unit) {
    if (!ran) return residency_->Return(unit);
    slot_marks_[residency_->slot(unit)] = mark;
    residency_->Release(unit);
  });
  return ran;
}

void ExpertStore::EndStep() {
  if (whole()) return;
  residency_->EndStep();
  Pump();
}

void ExpertStore::Tick() {
  if (!whole()) Pump();
}

void ExpertStore::Pump() {
  NoteArrivals(queue_->num_done());
  while (const auto load = residency_->NextLoad(kPrefetchesMax)) {
    Unit& unit = UnitAt(load->unit);
    unit.copy = queue_->Copy(SlotAddress(load->slot), unit.image.as<void>(), unit.image.bytes(),
                             slot_marks_[load->slot]);
    copying_.emplace(unit.copy, load->unit);
    (load->ahead ? ahead_bytes_ : demand_bytes_) += static_cast<int64_t>(unit.image.bytes());
  }
}

void ExpertStore::NoteArrivals(uint64_t num_done) {
  while (!copying_.empty() && copying_.begin()->first <= num_done) {
    residency_->OnLoaded(copying_.begin()->second);
    copying_.erase(copying_.begin());
  }
}

absl::StatusOr<absl::Duration> ExpertStore::TimeLoad(Clock* clock) {
  constexpr int kCopies = 3;
  if (!copying_.empty()) queue_->Await(copying_.rbegin()->first);
  RETURN_IF_ERROR(device_.Synchronize());
  copying_.clear();
  residency_ = std::make_unique<Residency>(spec_.num_layers, spec_.num_experts,
                                           static_cast<int32_t>(slot_marks_.size()));
  demand_bytes_ = ahead_bytes_ = 0;
  const auto largest = std::max_element(
      units_.begin(), units_.end(),
      [](const Unit& a, const Unit& b) { return a.image.bytes() < b.image.bytes(); });
  absl::Duration least = absl::InfiniteDuration();
  for (int i = 0; i < kCopies; ++i) {
    const absl::Time start = clock->Now();
    queue_->Await(queue_->Copy(SlotAddress(0), largest->image.as<void>(), largest->image.bytes(),
                               slot_marks_[0]));
    RETURN_IF_ERROR(device_.Synchronize());
    least = std::min(least, clock->Now() - start);
  }
  return least;
}

bool ExpertStore::IsResident(ExpertId expert) const {
  for (int32_t layer = 0; layer < spec_.num_layers; ++layer) {
    if (has_units(layer) && residency_->state({layer, expert}) != UnitState::kResident)
      return false;
  }
  return true;
}

std::vector<UnitId> ExpertStore::ResidentUnits() const {
  if (!whole()) return residency_->ResidentUnits();
  std::vector<UnitId> units;
  for (int32_t layer = 0; layer < spec_.num_layers; ++layer) {
    for (ExpertId e = 0; e < spec_.num_experts; ++e) {
      if (has_units(layer) && held_[e]) units.push_back({layer, e});
    }
  }
  return units;
}

std::vector<UnitEvent> ExpertStore::TakeEvents() {
  return whole() ? std::vector<UnitEvent>() : residency_->TakeEvents();
}

ResidencyCounts ExpertStore::counts() const {
  return whole() ? ResidencyCounts{.hits = num_whole_hits_} : residency_->counts();
}

ResidencyStats ExpertStore::stats() const {
  if (whole()) {
    return {.units = num_whole_units_, .slots = num_whole_units_, .bytes = device_bytes_};
  }
  const int32_t units = residency_->num_resident();
  return {.units = units,
          .slots = residency_->num_slots(),
          .bytes = units * slot_bytes_,
          .loads = residency_->counts().loads,
          .evictions = residency_->counts().evictions,
          .demand_bytes = demand_bytes_,
          .ahead_bytes = ahead_bytes_};
}

absl::Duration ExpertStore::stalled() const {
  return whole() ? absl::ZeroDuration() : queue_->stalled();
}

}  // namespace pregate
