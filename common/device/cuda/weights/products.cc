#include "common/device/cuda/weights/products.h"

#include <utility>

#include "common/base/status.h"
#include "common/device/cuda/kernels.h"
#include "common/device/cuda/weights/image.h"

namespace pregate::cuda {
namespace {

void CheckSameElements(ActType act, WeightFormat format) {
  PREGATE_CHECK((act == ActType::kBF16) == IsBf16(format), "act ", TypeName(act), " weights ",
                TypeName(format));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Products>> Products::Create(CudaRuntime* runtime) {
  std::unique_ptr<Products> products(new Products(runtime));
  ASSIGN_OR_RETURN(products->dense_, CublasMatmul::Create(runtime));
  return products;
}

void Products::Embed(RowCount rows, const int32_t* token_ids, const Matrix& table, float scale,
                     float* out) {
  cuda::Embed(stream_in_use(), {rows.num, rows.max}, token_ids, table.data,
              RowStride(table.inputs, table.format), table.inputs, IsBf16(table.format), scale,
              out);
}

void Products::Linear(RowCount rows, ActType act, const void* act_in, const Matrix& w,
                      const float* bias, float* out) {
  CheckSameElements(act, w.format);
  if (CublasMatmul::Takes(w)) {
    runtime_.Use();
    dense_->Run(rows.max, act_in, w, out);
  } else {
    PlainLinear(rows, act_in, w, out);
  }
  if (bias != nullptr) AddBias(stream_in_use(), Rows{rows.num, rows.max}, w.outputs, bias, out);
}

void Products::PlainLinear(RowCount rows, const void* act_in, const Matrix& w, float* out) {
  GroupedMatmul p;
  p.rows = Rows{rows.num, rows.max};
  p.x = act_in;
  p.x_stride = p.inputs = w.inputs;
  p.weight = w.data;
  p.weight_stride = RowStride(w.inputs, w.format);
  p.outputs = p.out_columns = w.outputs;
  p.bf16 = IsBf16(w.format);
  p.out = out;
  p.out_stride = w.outputs;
  GroupedLinear(stream_in_use(), p);
}

//   mid[i, :] = round(silu(gate · x[order[i]]) * (up · x[order[i]]))    i in the sorted order
//   out[order[i], :] = down · mid[i, :]
void Products::ExpertFfn(RowCount rows, ActType act, const void* act_in, const ExpertGroups& groups,
                         const void* const* units, const UnitShape& shape, float* out) {
  CheckSameElements(act, shape.format);
  const int64_t mid_stride = RowStride(shape.width, shape.format);
  void* mid = mid_.Get(size_t(rows.max) * mid_stride * ElementBytes(shape.format));
  if (mid == nullptr) return;
  const UnitSections sections = SectionsOf(shape);
  GroupedMatmul p;
  p.rows = Rows{rows.num, rows.max};
  p.offsets = groups.offsets;
  p.num_groups = groups.num_experts;
  p.units = units;
  p.bf16 = IsBf16(shape.format);

  GroupedMatmul gate_up = p;
  gate_up.x = act_in;
  gate_up.x_index = groups.order;
  gate_up.x_stride = gate_up.inputs = shape.hidden;
  gate_up.second_section_bytes = static_cast<int64_t>(sections.up);
  gate_up.weight_stride = RowStride(shape.hidden, shape.format);
  gate_up.outputs = shape.width;
  gate_up.out = mid;
  gate_up.out_stride = gate_up.out_columns = static_cast<int>(mid_stride);
  GroupedGateUp(stream_in_use(), gate_up);

  GroupedMatmul down = p;
  down.x = mid;
  down.x_stride = down.inputs = static_cast<int>(mid_stride);
  down.section_bytes = static_cast<int64_t>(sections.down);
  down.weight_stride = mid_stride;
  down.outputs = down.out_columns = shape.hidden;
  down.out = out;
  down.out_index = groups.order;
  down.out_stride = shape.hidden;
  GroupedLinear(stream_in_use(), down);
}

}  // namespace pregate::cuda
