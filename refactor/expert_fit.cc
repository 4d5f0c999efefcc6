#include "refactor/expert_fit.h"

#include <algorithm>

#include "common/base/status.h"
#include "refactor/energy_code.h"
#include "refactor/parallel_ranges.h"

namespace pregate {
namespace {

constexpr int64_t kFlushTokens = 512;  // added up in float before they go to the double sums

// Means over each expert's tokens, [num_layers][num_experts, width].
struct Statistic {
  std::vector<std::vector<double>> energy;  // h^2
  std::vector<std::vector<double>> share;
};

class Fitter {
 public:
  Fitter(const ActivationLog& log, int num_experts,
         const std::vector<std::vector<float>>& down_norms, const ExpertFitOptions& options,
         const std::function<void(int)>& advance)
      : log_(log),
        num_experts_(num_experts),
        down_norms_(down_norms),
        options_(options),
        advance_(advance),
        codes_(static_cast<size_t>(log.num_tokens()) * log.width()) {}

  absl::StatusOr<Statistic> Measure(absl::Span<const int32_t> experts);
  absl::StatusOr<std::vector<float>> Score(const std::vector<LayerNeurons>& layers);
  std::vector<LayerNeurons> Select(const Statistic& domain, const Statistic& assigned,
                                   double blend) const;
  std::vector<std::vector<int32_t>> SelectOne(const Statistic& domain,
                                              absl::Span<const int32_t> domains) const;

 private:
  void SumColumns(absl::Span<const int32_t> experts, absl::Span<const float> energies,
                  int64_t begin, int64_t end, std::vector<double>& energy,
                  std::vector<double>& share) const;

  const ActivationLog& log_;
  const int num_experts_;
  const std::vector<std::vector<float>>& down_norms_;
  const ExpertFitOptions& options_;
  const std::function<void(int)>& advance_;
  std::vector<uint8_t> codes_;  // of the layer in hand, [num_tokens, width]
};

// Sums neurons [begin, end) over all tokens in their order: no thread count changes a bit.
void Fitter::SumColumns(absl::Span<const int32_t> experts, absl::Span<const float> energies,
                        int64_t begin, int64_t end, std::vector<double>& energy,
                        std::vector<double>& share) const {
  const int64_t width = log_.width(), columns = end - begin;
  std::vector<float> row(columns), part_energy(num_experts_ * columns),
      part_share(num_experts_ * columns);
  const auto flush = [&] {
    for (int e = 0; e < num_experts_; ++e) {
      for (int64_t j = 0; j < columns; ++j) {
        energy[e * width + begin + j] += part_energy[e * columns + j];
        share[e * width + begin + j] += part_share[e * columns + j];
      }
    }
    std::fill(part_energy.begin(), part_energy.end(), 0.f);
    std::fill(part_share.begin(), part_share.end(), 0.f);
  };
  for (int64_t t = 0; t < log_.num_tokens(); ++t) {
    DecodeShares(absl::MakeConstSpan(codes_).subspan(t * width + begin, columns),
                 absl::MakeSpan(row));
    float* to_energy = part_energy.data() + experts[t] * columns;
    float* to_share = part_share.data() + experts[t] * columns;
    const float total = energies[t];
    for (int64_t j = 0; j < columns; ++j) {
      to_share[j] += row[j];
      to_energy[j] += row[j] * total;
    }
    if ((t + 1) % kFlushTokens == 0) flush();
  }
  flush();
}

absl::StatusOr<Statistic> Fitter::Measure(absl::Span<const int32_t> experts) {
  const int width = log_.width();
  std::vector<double> tokens(num_experts_, 0);
  for (int32_t e : experts) ++tokens[e];
  Statistic out;
  for (int l = 0; l < log_.num_layers(); ++l) {
    RETURN_IF_ERROR(log_.ReadLayer(l, absl::MakeSpan(codes_)));
    std::vector<double> energy(static_cast<size_t>(num_experts_) * width, 0), share(energy);
    ParallelRanges(options_.num_threads, width, [&](int64_t begin, int64_t end) {
      SumColumns(experts, log_.Energies(l), begin, end, energy, share);
    });
    for (int e = 0; e < num_experts_; ++e) {
      const double per_token = tokens[e] > 0 ? 1 / tokens[e] : 0;
      for (int j = 0; j < width; ++j) {
        const double norm = down_norms_[l][j];
        share[e * width + j] *= per_token;
        energy[e * width + j] *= norm > 0 ? per_token / norm : 0;
      }
    }
    out.energy.push_back(std::move(energy));
    out.share.push_back(std::move(share));
    advance_(1);
  }
  return out;
}

absl::StatusOr<std::vector<float>> Fitter::Score(const std::vector<LayerNeurons>& layers) {
  constexpr int kLanes = 8;
  const int width = log_.width(), padded = (width + kLanes - 1) / kLanes * kLanes;
  std::vector<float> scores(static_cast<size_t>(log_.num_tokens()) * num_experts_, 0);
  for (int l = 0; l < log_.num_layers(); ++l) {
    RETURN_IF_ERROR(log_.ReadLayer(l, absl::MakeSpan(codes_)));
    std::vector<float> own(static_cast<size_t>(num_experts_) * padded, 0);  // 1 where e owns j
    for (int e = 0; e < num_experts_; ++e) {
      for (int32_t j : layers[l].own[e]) own[e * padded + j] = 1;
    }
    ParallelRanges(options_.num_threads, log_.num_tokens(), [&](int64_t begin, int64_t end) {
      std::vector<float> row(padded, 0);
      for (int64_t t = begin; t < end; ++t) {
        DecodeShares(absl::MakeConstSpan(codes_).subspan(t * width, width),
                     absl::MakeSpan(row).subspan(0, width));
        for (int e = 0; e < num_experts_; ++e) {
          const float* mask = own.data() + e * padded;
          float lanes[kLanes] = {};
          for (int j = 0; j < padded; j += kLanes) {
            for (int k = 0; k < kLanes; ++k) lanes[k] += row[j + k] * mask[j + k];
          }
          float sum = 0;
          for (float lane : lanes) sum += lane;
          scores[t * num_experts_ + e] += sum;
        }
      }
    });
    advance_(1);
  }
  return scores;
}

std::vector<LayerNeurons> Fitter::Select(const Statistic& domain, const Statistic& assigned,
                                         double blend) const {
  std::vector<LayerNeurons> out;
  for (int l = 0; l < log_.num_layers(); ++l) {
    std::vector<double> scores(domain.energy[l].size());
    for (size_t i = 0; i < scores.size(); ++i) {
      const double energy = (1 - blend) * domain.energy[l][i] + blend * assigned.energy[l][i];
      const double share = (1 - blend) * domain.share[l][i] + blend * assigned.share[l][i];
      scores[i] = energy * share;
    }
    out.push_back(SelectNeurons(scores, log_.width(), options_.widths[l], WidthStep(log_.width())));
  }
  return out;
}

// The statistic over all tokens is the domains' weighted by their tokens.
std::vector<std::vector<int32_t>> Fitter::SelectOne(const Statistic& domain,
                                                    absl::Span<const int32_t> domains) const {
  std::vector<double> tokens(num_experts_, 0);
  for (const int32_t d : domains) ++tokens[d];
  std::vector<std::vector<int32_t>> out;
  const int width = log_.width();
  for (int l = 0; l < log_.num_layers(); ++l) {
    std::vector<double> scores(width);
    for (int j = 0; j < width; ++j) {
      double energy = 0, share = 0;
      for (int e = 0; e < num_experts_; ++e) {
        energy += tokens[e] * domain.energy[l][e * width + j];
        share += tokens[e] * domain.share[l][e * width + j];
      }
      scores[j] = energy * share;
    }
    out.push_back(SelectNeurons(scores, width, options_.widths[l], 1).shared);
  }
  return out;
}

std::vector<int32_t> BestExperts(absl::Span<const float> scores, int num_experts) {
  std::vector<int32_t> out;
  for (size_t i = 0; i < scores.size(); i += num_experts) {
    const auto begin = scores.begin() + i;
    out.push_back(static_cast<int32_t>(std::max_element(begin, begin + num_experts) - begin));
  }
  return out;
}

}  // namespace

absl::StatusOr<ExpertFit> FitExperts(const ActivationLog& log, absl::Span<const int32_t> domains,
                                     int num_experts,
                                     const std::vector<std::vector<float>>& down_norms,
                                     const ExpertFitOptions& options,
                                     const std::function<void(int)>& advance) {
  PREGATE_CHECK(static_cast<int64_t>(domains.size()) == log.num_tokens());
  PREGATE_CHECK(static_cast<int>(down_norms.size()) == log.num_layers());
  PREGATE_CHECK(static_cast<int>(options.widths.size()) == log.num_layers());
  Fitter fitter(log, num_experts, down_norms, options, advance);
  ASSIGN_OR_RETURN(const Statistic domain, fitter.Measure(domains));
  ExpertFit fit;
  fit.layers = fitter.Select(domain, domain, 0);
  fit.one_set = fitter.SelectOne(domain, domains);
  for (int round = 0; round < options.rounds; ++round) {
    ASSIGN_OR_RETURN(fit.scores, fitter.Score(fit.layers));
    ASSIGN_OR_RETURN(const Statistic assigned,
                     fitter.Measure(BestExperts(fit.scores, num_experts)));
    fit.layers = fitter.Select(domain, assigned, options.blend);
  }
  ASSIGN_OR_RETURN(fit.scores, fitter.Score(fit.layers));
  return fit;
}

int FitPasses(const ExpertFitOptions& options, int num_layers) {
  return (2 + 2 * options.rounds) * num_layers;
}

}  // namespace pregate
