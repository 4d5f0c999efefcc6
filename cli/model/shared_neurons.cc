#include "cli/model/shared_neurons.h"

#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace pregate {
namespace {

absl::string_view RowBytes(const StoredTensor& matrix, int64_t row) {
  const size_t bytes = matrix.bytes.size() / matrix.shape[0];
  return {matrix.bytes.data() + row * bytes, bytes};
}

// A neuron of expert 0 and its equal in the expert under comparison.
struct Pair {
  int32_t first = 0;
  int32_t other = 0;
  bool equal = true;
};

// Pairs the given rows of `first` with rows of `other` that have equal gate and up rows; each row
// is used once.
std::vector<Pair> PairRows(const FusedExpert& first, const std::vector<int32_t>& rows,
                           const FusedExpert& other) {
  absl::flat_hash_map<absl::string_view, std::vector<int32_t>> by_gate;
  for (int64_t r = other.gate->shape[0] - 1; r >= 0; --r) {
    by_gate[RowBytes(*other.gate, r)].push_back(static_cast<int32_t>(r));
  }
  std::vector<Pair> pairs;
  for (const int32_t row : rows) {
    const auto it = by_gate.find(RowBytes(*first.gate, row));
    if (it == by_gate.end() || it->second.empty()) continue;
    const int32_t candidate = it->second.back();
    if (RowBytes(*first.up, row) != RowBytes(*other.up, candidate)) continue;
    it->second.pop_back();
    pairs.push_back({row, candidate});
  }
  return pairs;
}

// Clears `equal` where the down columns differ. Row by row of the matrices, as they lie in memory.
void CompareDownColumns(const StoredTensor& first, const StoredTensor& other,
                        std::vector<Pair>* pairs) {
  const size_t element = BlockLayoutOf(first.type).bytes;
  for (int64_t h = 0; h < first.shape[0]; ++h) {
    const char* a = RowBytes(first, h).data();
    const char* b = RowBytes(other, h).data();
    for (Pair& pair : *pairs) {
      if (std::memcmp(a + pair.first * element, b + pair.other * element, element) != 0) {
        pair.equal = false;
      }
    }
  }
}

}  // namespace

std::vector<std::vector<int32_t>> FindSharedNeurons(absl::Span<const FusedExpert> experts) {
  std::vector<std::vector<int32_t>> rows(1);
  for (int32_t r = 0; r < experts[0].gate->shape[0]; ++r) rows[0].push_back(r);
  for (size_t e = 1; e < experts.size(); ++e) {
    std::vector<Pair> pairs = PairRows(experts[0], rows[0], experts[e]);
    CompareDownColumns(*experts[0].down, *experts[e].down, &pairs);
    // Keep, in all experts so far, the neurons that this one has too.
    std::vector<std::vector<int32_t>> kept(e + 1);
    size_t k = 0;
    for (const Pair& pair : pairs) {
      if (!pair.equal) continue;
      while (rows[0][k] != pair.first) ++k;
      for (size_t earlier = 0; earlier < e; ++earlier) kept[earlier].push_back(rows[earlier][k]);
      kept[e].push_back(pair.other);
    }
    rows = std::move(kept);
  }
  return rows;
}

}  // namespace pregate
