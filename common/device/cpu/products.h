// Matrix products over packed weights: the plain linear layer and the grouped FFN.
#pragma once

#include <memory>
#include <vector>

#include "common/device/cpu/thread_pool.h"
#include "common/device/cpu/weights/kernels.h"

namespace pregate::cpu {

// Holds the threads' scratch and what lies between gate/up and down. One operation at a time.
class Products {
 public:
  explicit Products(ThreadPool& pool);

  // See Device::Linear and Device::Ffn.
  void Linear(int num_rows, const float* x, const Matrix& w, const float* bias, float* out);
  void Ffn(RowCount rows, ActType act, const float* x, const ExpertGroups& groups,
           const void* const* units, const UnitShape& shape, float* out);

 private:
  void GateUp(ActType act, const float* x, const ExpertGroups& groups, const void* const* units,
              const UnitShape& shape, int64_t mid_stride);
  void Down(const ExpertGroups& groups, const void* const* units, const UnitShape& shape,
            int64_t mid_stride, float* out);

  ThreadPool& pool_;
  std::vector<std::unique_ptr<PanelScratch>> scratch_;  // [threads]
  std::vector<float> mid_;                              // [rows.max, width rounded up to 16]
};

}  // namespace pregate::cpu
