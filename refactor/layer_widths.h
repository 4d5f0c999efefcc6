// How wide the experts of each layer are: the same everywhere, as told, or by what each layer's
// neurons are worth.
//
// A neuron's worth is the mean over tokens of (h_j dL/dh_j)^2, where h_j is its activation and L the
// model's own log-likelihood of text drawn from its distribution, token by token: to second order what
// the divergence from the dense model gains when the neuron falls silent (the diagonal of Fisher's
// information; Theis et al. 2018, arXiv 1801.05787; Molchanov et al. 2019, arXiv 1906.10771). Unlike
// a share of the layer's output it can be compared between layers.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/corpus.h"
#include "refactor/dense_forward.h"

namespace pregate {

struct WidthOptions {
  double keep = 0.75;                // of all layers' neurons, by each expert
  std::string by_layer = "worth";    // or "even": of each layer's alike
  std::vector<double> keep_layers;   // instead of both, [layers]
  int worth_windows_per_domain = 2;  // measured on
};
// `by_layer` shares out what is above this part of `keep`, which every layer keeps.
inline constexpr double kLeastOfKeep = 0.5;

// Of the neurons of all layers, that a token runs.
double MeanKeep(const WidthOptions& options);

// InvalidArgument names the option: not in (0, 1], too little for one step, not of as many layers.
absl::Status CheckWidths(const WidthOptions& options, const ModelSpec& spec);

// [layers]. `progress` takes the part that is done, 0 .. 1. REQUIRES: CheckWidths.
absl::StatusOr<std::vector<int>> ChooseWidths(const Checkpoint& dense, const Corpus& corpus,
                                              const WidthOptions& options, uint64_t seed,
                                              const std::function<void(double)>& progress);

// Whether worth is measured in bf16: where the weights in f32 would take more than `f32_bytes_max`.
bool WorthInBf16(const ModelSpec& spec, int64_t f32_bytes_max = kFfnBytesKept);

// [layers][domains, intermediate], of `windows_per_domain` windows, spread evenly; on the CPU, with
// LibTorch's threads. `progress` takes the part that is done, 0 .. 1. The checkpoint's errors.
absl::StatusOr<std::vector<std::vector<double>>> MeasureWorth(
    const Checkpoint& dense, const Corpus& corpus, int windows_per_domain, uint64_t seed,
    const std::function<void(double)>& progress, int64_t f32_bytes_max = kFfnBytesKept);

}  // namespace pregate
