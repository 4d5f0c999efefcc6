// Policies beside each other, as a table and as a picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "sim/report.h"

namespace pregate::sim {

struct ComparedRun {
  std::string policy;
  std::string cache;
  int32_t slots = 0;  // experts that fit
  Report report;
};

// Loads over those of an optimal cache on the same order, within the window; 1 where nothing loads.
double LoadsOverOptimum(const Report& report);

// Markdown, one row a run.
std::string ToTable(absl::Span<const ComparedRun> runs);
// A self-contained SVG: for each number of slots a bar a policy, of mean normalized latency (with
// its 95th percentile) and of loads over the optimum's.
std::string ToSvg(absl::Span<const ComparedRun> runs, const std::string& title);

}  // namespace pregate::sim
