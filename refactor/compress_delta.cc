#include "refactor/compress_delta.h"

#include <cmath>

#include "refactor/torch_ops.h"

namespace pregate {
namespace {

// A matrix with the bits that it has, and with one more.
struct Choice {
  std::string name;
  at::Tensor values;  // on the host, f32, contiguous
  double lost = 0, lost_with_more = 0;
  CodedMatrix coded, with_more;

  int64_t rows() const { return values.size(0); }
  int64_t columns() const { return values.size(1); }
  CodedMatrix EncodeIn(int bits, double* square_lost) const {
    return Encode({values.data_ptr<float>(), static_cast<size_t>(values.numel())}, rows(),
                  columns(), bits, square_lost);
  }
  bool HasMore() const { return with_more.bits > coded.bits; }
  int64_t more_bytes() const { return with_more.bytes() - coded.bytes(); }
  double gain() const { return (lost - lost_with_more) / static_cast<double>(more_bytes()); }

  void PrepareMore() {
    if (coded.bits < kCodeBitsMax) with_more = EncodeIn(coded.bits + 1, &lost_with_more);
  }
  void TakeMore() {
    coded = std::move(with_more);
    with_more = {};
    lost = lost_with_more;
    PrepareMore();
  }
};

// The first of those that gain the most a byte; null where none fits.
Choice* Best(std::vector<Choice>& choices, int64_t bytes_left) {
  Choice* best = nullptr;
  for (Choice& choice : choices) {
    if (!choice.HasMore() || choice.more_bytes() > bytes_left || choice.gain() <= 0) continue;
    if (best == nullptr || choice.gain() > best->gain()) best = &choice;
  }
  return best;
}

void ShareOut(std::vector<Choice>& choices, int64_t bytes_left) {
  for (Choice& choice : choices) choice.PrepareMore();
  while (Choice* best = Best(choices, bytes_left)) {
    bytes_left -= best->more_bytes();
    best->TakeMore();
  }
}

double SquareOf(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).square().sum().item<double>();
}

// What CompressedDeltas says of all differences.
struct Sums {
  double square = 0, lost = 0, weights = 0, bits = 0;

  void AddMatrix(const at::Tensor& values, int code_bits, double square_lost) {
    lost += square_lost;
    weights += static_cast<double>(values.numel());
    bits += static_cast<double>(values.numel()) * code_bits;
  }
  void Finish(CompressedDeltas& out) const {
    out.error = square > 0 ? std::sqrt(lost / square) : 0;
    out.bits = weights > 0 ? bits / weights : 0;
  }
};

}  // namespace

CompressedDeltas CompressOnGrid(const NamedTensors& differences, const WeightDeltas& grid) {
  const at::NoGradGuard no_grad;
  CompressedDeltas out;
  Sums sums;
  for (const auto& [name, difference] : differences) {
    const double square = SquareOf(difference);
    sums.square += square;
    const auto on = grid.find(name);
    if (on == grid.end()) {
      sums.lost += square;
      continue;
    }
    WeightDelta delta = on->second;
    if (difference.dim() > 1) {
      const at::Tensor values = difference.to(at::kCPU, at::kFloat).contiguous();
      double missed = 0;
      delta.coded = EncodeOnGrid({values.data_ptr<float>(), static_cast<size_t>(values.numel())},
                                 delta.coded, &missed);
      sums.AddMatrix(values, delta.coded.bits, missed);
    } else {
      delta.exact = ToFloats(difference);
    }
    out.bytes += delta.bytes();
    out.deltas[name] = std::move(delta);
  }
  sums.Finish(out);
  return out;
}

CompressedDeltas CompressDeltas(const NamedTensors& differences, int64_t bytes_max) {
  const at::NoGradGuard no_grad;
  CompressedDeltas out;
  std::vector<Choice> matrices;
  Sums sums;
  for (const auto& [name, difference] : differences) {
    const double square = SquareOf(difference);
    sums.square += square;
    if (square == 0) continue;
    if (difference.dim() > 1) {
      const at::Tensor values = difference.to(at::kCPU, at::kFloat).contiguous();
      matrices.push_back({.name = name, .values = values, .lost = square});
      continue;
    }
    WeightDelta delta{.shape = {difference.size(0)}, .exact = ToFloats(difference)};
    if (bytes_max > 0 && out.bytes + delta.bytes() > bytes_max) {
      sums.lost += square;
      continue;
    }
    out.bytes += delta.bytes();
    out.deltas[name] = std::move(delta);
  }
  if (bytes_max > 0) {
    ShareOut(matrices, bytes_max - out.bytes);
  } else {
    for (Choice& choice : matrices) choice.coded = choice.EncodeIn(kCodeBitsMax, &choice.lost);
  }
  for (Choice& choice : matrices) {
    sums.AddMatrix(choice.values, choice.coded.bits, choice.lost);
    if (choice.coded.bits == 0) continue;
    WeightDelta delta{.shape = {choice.rows(), choice.columns()}, .coded = std::move(choice.coded)};
    out.bytes += delta.bytes();
    out.deltas[choice.name] = std::move(delta);
  }
  sums.Finish(out);
  return out;
}

}  // namespace pregate
