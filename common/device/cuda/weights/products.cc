#include "common/device/cuda/weights/products.h"

#include <utility>

#include "common/base/status.h"
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
    GroupedLinear(stream_in_use(), DenseProduct(rows, act_in, w, out));
  }
  if (bias != nullptr) AddBias(stream_in_use(), Rows{rows.num, rows.max}, w.outputs, bias, out);
}

GroupedMatmul Products::DenseProduct(RowCount rows, const void* act_in, const Matrix& w,
                                     float* out) const {
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
  return p;
}

struct Products::FfnProducts {
  GroupedMatmul gate_up, down;
};

//   mid[i, :] = round(silu(gate · x[order[i]]) * (up · x[order[i]]))    i in the sorted order
//   out[order[i], :] = down · mid[i, :]
Products::FfnProducts Products::Describe(RowCount rows, const void* act_in, const FfnPart& part,
                                         void* mid) {
  const UnitShape& shape = part.shape;
  const int64_t mid_stride = RowStride(shape.width, shape.format);
  const UnitSections sections = SectionsOf(shape);
  GroupedMatmul p;
  p.rows = Rows{rows.num, rows.max};
  p.offsets = part.groups.offsets;
  p.num_groups = part.groups.num_experts;
  p.units = part.units;
  p.bf16 = IsBf16(shape.format);

  FfnProducts products = {p, p};
  GroupedMatmul& gate_up = products.gate_up;
  gate_up.x = act_in;
  gate_up.x_index = part.groups.order;
  gate_up.x_stride = gate_up.inputs = shape.hidden;
  gate_up.second_section_bytes = static_cast<int64_t>(sections.up);
  gate_up.weight_stride = RowStride(shape.hidden, shape.format);
  gate_up.outputs = shape.width;
  gate_up.out = mid;
  gate_up.out_stride = gate_up.out_columns = static_cast<int>(mid_stride);

  GroupedMatmul& down = products.down;
  down.x = mid;
  down.x_stride = down.inputs = static_cast<int>(mid_stride);
  down.section_bytes = static_cast<int64_t>(sections.down);
  down.weight_stride = mid_stride;
  down.outputs = down.out_columns = shape.hidden;
  down.out = part.out;
  down.out_index = part.groups.order;
  down.out_stride = shape.hidden;
  return products;
}

void Products::Ffn(RowCount rows, ActType act, const void* act_in, const FfnPart& first,
                   const FfnPart* also) {
  CheckSameElements(act, first.shape.format);
  const auto mid_bytes = [&](const FfnPart& part) {
    CheckSameElements(act, part.shape.format);
    const size_t elements = size_t(rows.max) * RowStride(part.shape.width, part.shape.format);
    return (elements * ElementBytes(part.shape.format) + 255) / 256 * 256;
  };
  const size_t first_bytes = mid_bytes(first);
  char* mid = static_cast<char*>(mid_.Get(first_bytes + (also != nullptr ? mid_bytes(*also) : 0)));
  if (mid == nullptr) return;
  const FfnProducts products = Describe(rows, act_in, first, mid);
  if (also == nullptr) {
    GroupedGateUp(stream_in_use(), products.gate_up);
    return GroupedLinear(stream_in_use(), products.down);
  }
  const FfnProducts beside = Describe(rows, act_in, *also, mid + first_bytes);
  GroupedGateUp(stream_in_use(), products.gate_up, &beside.gate_up);
  GroupedLinear(stream_in_use(), products.down, &beside.down);
}

void Products::FfnParts(RowCount rows, ActType act, const FfnWeights& weights,
                        const ExpertGroups& groups, const void* const* units,
                        const LayerWorkspace& w) {
  const FfnPart shared = {AllRows(), weights.shared_unit, weights.shared, w.wide};
  const FfnPart own = {groups, units, weights.own, w.own};
  if (weights.shared.width == 0) return Ffn(rows, act, w.act, own, nullptr);
  Ffn(rows, act, w.act, shared, weights.own.width > 0 ? &own : nullptr);
}

}  // namespace pregate::cuda
