#include "common/model/formats/tensor_view.h"

#include "common/base/status.h"

namespace pregate {

std::vector<int64_t> TensorView::shape() const {
  std::vector<int64_t> shape = stored.shape;
  if (!rows.empty()) shape[0] = static_cast<int64_t>(rows.size());
  if (!cols.empty()) shape[1] = static_cast<int64_t>(cols.size());
  return shape;
}

size_t TensorView::stored_bytes() const {
  double share = 1;
  if (!rows.empty())
    share *= static_cast<double>(rows.size()) / static_cast<double>(stored.shape[0]);
  if (!cols.empty())
    share *= static_cast<double>(cols.size()) / static_cast<double>(stored.shape[1]);
  return static_cast<size_t>(share * static_cast<double>(stored.bytes.size()));
}

void ReadView(const TensorView& view, absl::Span<float> out) {
  if (view.rows.empty() && view.cols.empty()) {
    PREGATE_CHECK(static_cast<int64_t>(out.size()) == view.stored.num_elements(), "tensor ",
                  view.stored.name);
    DecodeElements(view.stored, 0, out);
    return;
  }
  const std::vector<int64_t> shape = view.shape();
  PREGATE_CHECK(shape.size() == 2 && static_cast<int64_t>(out.size()) == shape[0] * shape[1],
                "tensor ", view.stored.name);
  const int64_t stored_width = view.stored.shape[1];
  std::vector<float> row(view.cols.empty() ? 0 : stored_width);
  for (int64_t r = 0; r < shape[0]; ++r) {
    const int64_t source = view.rows.empty() ? r : view.rows[r];
    const absl::Span<float> target = out.subspan(r * shape[1], shape[1]);
    if (view.cols.empty()) {
      DecodeElements(view.stored, source * stored_width, target);
      continue;
    }
    DecodeElements(view.stored, source * stored_width, absl::MakeSpan(row));
    for (size_t c = 0; c < view.cols.size(); ++c) target[c] = row[view.cols[c]];
  }
}

}  // namespace pregate
