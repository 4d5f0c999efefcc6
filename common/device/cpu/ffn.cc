#include <algorithm>

#include "common/base/status.h"
#include "common/device/cpu/products.h"

namespace pregate::cpu {
namespace {

// One panel of one group's unit against one chunk of the group's rows.
struct GroupTask {
  int expert = 0;
  int first = 0;  // index into groups.order
  int num_rows = 0;
  int64_t panel = 0;
};

// Of group e; 0 where it is empty or has no unit.
int64_t NumChunks(const GroupedRows& groups, const void* const* units, int e) {
  return units[e] == nullptr ? 0 : CeilDiv(groups.count(e), kChunkRows);
}

int64_t NumTasks(const GroupedRows& groups, const void* const* units, int64_t panels) {
  int64_t n = 0;
  for (int e = 0; e < groups.num_groups; ++e) n += NumChunks(groups, units, e) * panels;
  return n;
}

// The chunks of a panel follow each other, the panels of a unit, the units.
GroupTask TaskAt(const GroupedRows& groups, const void* const* units, int64_t panels,
                 int64_t index) {
  for (int e = 0;; ++e) {
    const int begin = groups.offsets[e], end = groups.offsets[e + 1];
    const int64_t chunks = NumChunks(groups, units, e);
    if (index < chunks * panels) {
      const int first = begin + static_cast<int>(index % chunks) * kChunkRows;
      return {e, first, std::min(kChunkRows, end - first), index / chunks};
    }
    index -= chunks * panels;
  }
}

}  // namespace

void Products::ExpertFfn(RowCount rows, ActType act, const float* x, const ExpertGroups& experts,
                         const void* const* units, const UnitShape& shape, float* out) {
  const int32_t all[] = {0, *rows.num};
  const GroupedRows groups = {experts.offsets == nullptr ? all : experts.offsets, experts.order,
                              experts.num_experts};
  const int64_t mid_stride = RoundUp(shape.width, kPanelPairs);
  const int64_t num_grouped = groups.offsets[groups.num_groups];
  PREGATE_CHECK(num_grouped <= rows.max, "rows ", num_grouped, " of at most ", rows.max);
  const size_t mid_floats = static_cast<size_t>(rows.max) * mid_stride;
  if (mid_.size() < mid_floats) mid_.resize(mid_floats);
  GateUp(act, x, groups, units, shape, mid_stride);
  Down(groups, units, shape, mid_stride, out);
}

void Products::GateUp(ActType act, const float* x, const GroupedRows& groups,
                      const void* const* units, const UnitShape& shape, int64_t mid_stride) {
  const int64_t panels = mid_stride / kPanelPairs;
  const auto run = [&](int64_t index, int thread) {
    const GroupTask t = TaskAt(groups, units, panels, index);
    const float* rows[kChunkRows];
    for (int r = 0; r < t.num_rows; ++r) {
      rows[r] = x + groups.row(t.first + r) * shape.hidden;
    }
    PanelScratch& scratch = *scratch_[thread];
    MatmulPanel(rows, t.num_rows, GateUpPanel(units[t.expert], shape, t.panel), shape.hidden,
                shape.format, scratch);
    SiluMulPanel(scratch.tile, t.num_rows, act,
                 mid_.data() + t.first * mid_stride + t.panel * kPanelPairs, mid_stride);
  };
  pool_.Run(NumTasks(groups, units, panels), run);
}

void Products::Down(const GroupedRows& groups, const void* const* units, const UnitShape& shape,
                    int64_t mid_stride, float* out) {
  const int64_t panels = CeilDiv(shape.hidden, kPanelOutputs);
  const auto run = [&](int64_t index, int thread) {
    const GroupTask t = TaskAt(groups, units, panels, index);
    const float* rows[kChunkRows];
    for (int r = 0; r < t.num_rows; ++r) rows[r] = mid_.data() + (t.first + r) * mid_stride;
    PanelScratch& scratch = *scratch_[thread];
    MatmulPanel(rows, t.num_rows, DownPanel(units[t.expert], shape, t.panel), shape.width,
                shape.format, scratch);
    const int64_t column = t.panel * kPanelOutputs;
    const int64_t width = std::min<int64_t>(kPanelOutputs, shape.hidden - column);
    for (int r = 0; r < t.num_rows; ++r) {
      const float* src = scratch.tile + r * kPanelOutputs;
      std::copy_n(src, width, out + groups.row(t.first + r) * shape.hidden + column);
    }
  };
  pool_.Run(NumTasks(groups, units, panels), run);
}

}  // namespace pregate::cpu
