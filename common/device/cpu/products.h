// Matrix products over packed weights: the plain linear layer and the grouped FFN.
#pragma once

#include <memory>
#include <vector>

#include "common/device/cpu/thread_pool.h"
#include "common/device/cpu/weights/kernels.h"

namespace pregate::cpu {

// Rows by group. A null `order` is one group of rows in order (AllRows).
struct GroupedRows {
  const int32_t* offsets;  // [num_groups + 1]
  const int32_t* order;
  int num_groups;
  int count(int group) const { return offsets[group + 1] - offsets[group]; }
  int64_t row(int sorted) const { return order == nullptr ? sorted : order[sorted]; }
};

// Holds the threads' scratch and what lies between gate/up and down. One operation at a time.
class Products {
 public:
  explicit Products(ThreadPool& pool);

  // See DeviceOperations::Linear and Device::ExpertFfn.
  void Linear(int num_rows, const float* x, const Matrix& w, const float* bias, float* out);
  void ExpertFfn(RowCount rows, ActType act, const float* x, const ExpertGroups& groups,
                 const void* const* units, const UnitShape& shape, float* out);

 private:
  void GateUp(ActType act, const float* x, const GroupedRows& groups, const void* const* units,
              const UnitShape& shape, int64_t mid_stride);
  void Down(const GroupedRows& groups, const void* const* units, const UnitShape& shape,
            int64_t mid_stride, float* out);

  ThreadPool& pool_;
  std::vector<std::unique_ptr<PanelScratch>> scratch_;  // [threads]
  std::vector<float> mid_;                              // [rows.max, width rounded up to 16]
};

}  // namespace pregate::cpu
