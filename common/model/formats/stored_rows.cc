#include "common/model/formats/stored_rows.h"

#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint_parts.h"

namespace pregate {
namespace {

struct FusedPart {
  const char* name;
  const char* fused;
  int64_t first_row, rows_total;
};

}  // namespace

absl::StatusOr<TensorView> StoredRows::View(const StoredTensor& stored) const {
  RETURN_IF_ERROR(CheckShape(stored, stored.shape, name, shape));
  TensorView view{.stored = stored};
  view.rows.resize(num_rows);
  std::iota(view.rows.begin(), view.rows.end(), static_cast<int32_t>(first_row));
  return view;
}

StoredRows SourceOf(const CanonicalTensor& tensor, const ModelSpec& spec, bool fused) {
  const int64_t q = spec.q_width(), kv = spec.kv_width(), f = spec.intermediate;
  const FusedPart parts[] = {{".q_proj.", ".qkv_proj.", 0, q + 2 * kv},
                             {".k_proj.", ".qkv_proj.", q, q + 2 * kv},
                             {".v_proj.", ".qkv_proj.", q + kv, q + 2 * kv},
                             {".mlp.gate_proj.", ".mlp.gate_up_proj.", 0, 2 * f},
                             {".mlp.up_proj.", ".mlp.gate_up_proj.", f, 2 * f}};
  StoredRows source{.name = tensor.name, .shape = tensor.shape};
  for (const FusedPart& part : parts) {
    if (!fused || !absl::StrContains(tensor.name, part.name)) continue;
    source.name = absl::StrReplaceAll(tensor.name, {{part.name, part.fused}});
    source.shape[0] = part.rows_total;
    source.first_row = part.first_row;
    source.num_rows = tensor.shape[0];
  }
  return source;
}

}  // namespace pregate
