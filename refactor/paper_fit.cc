#include "refactor/paper_fit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "common/base/status.h"
#include "refactor/energy_code.h"
#include "refactor/parallel_ranges.h"

namespace pregate {
namespace {

class PaperFitter {
 public:
  PaperFitter(const ActivationLog& log, absl::Span<const int32_t> domains, int num_experts,
              const std::vector<std::vector<float>>& down_norms, int num_threads)
      : log_(log),
        domains_(domains),
        num_experts_(num_experts),
        down_norms_(down_norms),
        num_threads_(num_threads),
        codes_(static_cast<size_t>(log.num_tokens()) * log.width()) {}

  absl::Status Read(int layer) {
    layer_ = layer;
    return log_.ReadLayer(layer, absl::MakeSpan(codes_));
  }
  // [num_experts, width] sums of |h_j| over each domain's tokens.
  std::vector<double> SumActivations() const;
  // Adds the layer's overlaps to `scores` [num_tokens, num_experts].
  void AddOverlaps(const LayerNeurons& neurons, int kept, std::vector<float>& scores) const;

 private:
  // h_j^2 of neurons [begin, begin + out.size()), from shares: h^2 |w|^2 / energy.
  void Squares(int64_t token, int64_t begin, absl::Span<float> out) const {
    const std::vector<float>& norms = down_norms_[layer_];
    DecodeShares(absl::MakeConstSpan(codes_).subspan(token * log_.width() + begin, out.size()),
                 out);
    const float energy = log_.Energies(layer_)[token];
    for (size_t j = 0; j < out.size(); ++j) {
      out[j] = norms[begin + j] > 0 ? out[j] * energy / norms[begin + j] : 0;
    }
  }

  const ActivationLog& log_;
  const absl::Span<const int32_t> domains_;
  const int num_experts_;
  const std::vector<std::vector<float>>& down_norms_;
  const int num_threads_;
  std::vector<uint8_t> codes_;  // of the layer in hand, [num_tokens, width]
  int layer_ = 0;
};

// Neurons are cut among threads and tokens come in their order: no thread count changes a bit.
std::vector<double> PaperFitter::SumActivations() const {
  const int64_t width = log_.width();
  std::vector<double> sums(num_experts_ * width);
  ParallelRanges(num_threads_, width, [&](int64_t begin, int64_t end) {
    std::vector<float> row(end - begin);
    for (int64_t t = 0; t < log_.num_tokens(); ++t) {
      Squares(t, begin, absl::MakeSpan(row));
      double* to = sums.data() + domains_[t] * width + begin;
      for (size_t j = 0; j < row.size(); ++j) to[j] += std::sqrt(row[j]);
    }
  });
  return sums;
}

void PaperFitter::AddOverlaps(const LayerNeurons& neurons, int kept,
                              std::vector<float>& scores) const {
  const int width = log_.width();
  std::vector<std::vector<uint8_t>> masks(num_experts_, std::vector<uint8_t>(width));
  for (int e = 0; e < num_experts_; ++e) {
    for (const int32_t j : neurons.shared) masks[e][j] = 1;
    for (const int32_t j : neurons.own[e]) masks[e][j] = 1;
  }
  ParallelRanges(num_threads_, log_.num_tokens(), [&](int64_t begin, int64_t end) {
    std::vector<float> row(width);
    std::vector<int32_t> order(width);
    for (int64_t t = begin; t < end; ++t) {
      Squares(t, 0, absl::MakeSpan(row));
      std::iota(order.begin(), order.end(), 0);
      std::nth_element(
          order.begin(), order.begin() + kept - 1, order.end(),
          [&](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
      for (int e = 0; e < num_experts_; ++e) {
        int overlap = 0;
        for (int i = 0; i < kept; ++i) overlap += masks[e][order[i]];
        scores[t * num_experts_ + e] += static_cast<float>(overlap) / static_cast<float>(kept);
      }
    }
  });
}

// Of all tokens, whatever their domain.
std::vector<double> SumOverDomains(const std::vector<double>& sums, int width) {
  std::vector<double> all(width);
  for (size_t i = 0; i < sums.size(); ++i) all[i % width] += sums[i];
  return all;
}

}  // namespace

absl::StatusOr<ExpertFit> FitAsPaper(const ActivationLog& log, absl::Span<const int32_t> domains,
                                     int num_experts,
                                     const std::vector<std::vector<float>>& down_norms,
                                     const ExpertFitOptions& options,
                                     const std::function<void(int)>& advance) {
  PREGATE_CHECK(static_cast<int64_t>(domains.size()) == log.num_tokens());
  PREGATE_CHECK(static_cast<int>(down_norms.size()) == log.num_layers());
  const int width = log.width();
  PREGATE_CHECK(static_cast<int>(options.widths.size()) == log.num_layers());
  PaperFitter fitter(log, domains, num_experts, down_norms, options.num_threads);
  ExpertFit fit;
  fit.scores.resize(static_cast<size_t>(log.num_tokens()) * num_experts);
  for (int l = 0; l < log.num_layers(); ++l) {
    RETURN_IF_ERROR(fitter.Read(l));
    // An expert's neurons are ranked among themselves, so a sum ranks as a mean does.
    const std::vector<double> sums = fitter.SumActivations();
    const int kept = options.widths[l];
    fit.layers.push_back(SelectNeurons(sums, width, kept, WidthStep(width)));
    fit.one_set.push_back(SelectNeurons(SumOverDomains(sums, width), width, kept, 1).shared);
    advance(1);
    fitter.AddOverlaps(fit.layers.back(), kept, fit.scores);
    advance(1);
  }
  return fit;
}

}  // namespace pregate
