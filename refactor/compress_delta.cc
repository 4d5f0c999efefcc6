#include "refactor/compress_delta.h"

#include <algorithm>
#include <cmath>

#include "refactor/torch_ops.h"

namespace pregate {
namespace {

Int8Matrix Rounded(const at::Tensor& matrix) {
  return RoundToInt8(ToFloats(matrix), matrix.size(0), matrix.size(1));
}

// D = sum of left[k] right[k]^T, largest terms first: of the smaller side's D D^T the eigenvectors,
// each factor with half of the singular value.
struct Terms {
  std::string name;
  at::Tensor left, right;       // [terms, rows], [terms, columns]
  std::vector<double> squares;  // [terms] of the singular values
  int64_t rows = 0, columns = 0, rank = 0;
  int64_t bytes_per_term() const { return rows + columns + 2 * int64_t{sizeof(float)}; }
  int64_t bytes_whole() const { return rows * (columns + int64_t{sizeof(float)}); }
};

Terms Decompose(const std::string& name, const at::Tensor& difference) {
  Terms terms{.name = name, .rows = difference.size(0), .columns = difference.size(1)};
  const bool wide = terms.rows <= terms.columns;
  const at::Tensor d = (wide ? difference : difference.t()).to(at::kDouble);
  const auto [values, vectors] = at::linalg_eigh(at::mm(d, d.t()));
  const at::Tensor squares = values.flip(0).clamp_min(0);
  const at::Tensor small = vectors.flip(1).t();  // [terms, smaller side]
  const at::Tensor root = squares.sqrt().sqrt().clamp_min(1e-30).unsqueeze(1);
  const at::Tensor first = small * root, second = at::mm(small, d) / root;
  terms.left = wide ? first : second;
  terms.right = wide ? second : first;
  const at::Tensor on_host = squares.to(at::kCPU).contiguous();
  terms.squares.assign(on_host.data_ptr<double>(), on_host.data_ptr<double>() + on_host.numel());
  return terms;
}

// Sets every rank.
void ShareOut(std::vector<Terms>& all, int64_t bytes_left) {
  struct Term {
    double gain;  // a byte
    Terms* of;
  };
  std::vector<Term> order;
  for (Terms& terms : all) {
    for (const double square : terms.squares) {
      if (square > 0) order.push_back({square / terms.bytes_per_term(), &terms});
    }
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Term& a, const Term& b) { return a.gain > b.gain; });
  for (const Term& term : order) {
    if (term.of->bytes_per_term() > bytes_left) break;
    bytes_left -= term.of->bytes_per_term();
    ++term.of->rank;
  }
}

double SquareOf(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).square().sum().item<double>();
}

double SquareLost(const at::Tensor& difference, const WeightDelta& delta) {
  std::vector<float> kept(difference.numel(), 0.f);
  AddDelta(delta, absl::MakeSpan(kept));
  const at::Tensor values = at::from_blob(kept.data(), difference.sizes(), at::kFloat);
  return SquareOf(difference.to(at::kCPU) - values);
}

}  // namespace

CompressedDeltas CompressDeltas(const NamedTensors& differences, int64_t bytes_max) {
  const at::NoGradGuard no_grad;
  CompressedDeltas out;
  std::vector<Terms> matrices;
  double all = 0, lost = 0;
  const auto add = [&](const std::string& name, WeightDelta delta) {
    lost += SquareLost(differences.at(name), delta);
    out.bytes += delta.bytes();
    out.deltas[name] = std::move(delta);
  };
  for (const auto& [name, difference] : differences) {
    const double square = SquareOf(difference);
    all += square;
    if (square == 0) continue;
    if (difference.dim() == 1) {
      add(name, {.shape = {difference.size(0)}, .exact = ToFloats(difference)});
    } else if (bytes_max == 0) {
      add(name, {.shape = difference.sizes().vec(), .full = Rounded(difference)});
    } else {
      matrices.push_back(Decompose(name, difference));
    }
  }
  ShareOut(matrices, bytes_max - out.bytes);
  for (Terms& terms : matrices) {
    const at::Tensor& difference = differences.at(terms.name);
    WeightDelta delta{.shape = {terms.rows, terms.columns}};
    if (terms.rank * terms.bytes_per_term() >= terms.bytes_whole()) {
      delta.full = Rounded(difference);
    } else if (terms.rank > 0) {
      delta.left = Rounded(terms.left.narrow(0, 0, terms.rank));
      delta.right = Rounded(terms.right.narrow(0, 0, terms.rank));
    } else {
      lost += SquareOf(difference);
      continue;
    }
    add(terms.name, std::move(delta));
  }
  out.error = all > 0 ? std::sqrt(lost / all) : 0;
  return out;
}

}  // namespace pregate
