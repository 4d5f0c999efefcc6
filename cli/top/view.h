// What `pregate top` shows of one interval, computed from two scrapes of each source, and as text
// or JSON. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cli/top/series.h"
#include "nlohmann/json_fwd.hpp"

namespace pregate::cli {

// One metrics endpoint at one time.
struct SourceSample {
  std::string address;
  absl::Time time;
  std::optional<Scrape> scrape;  // nothing: down
  std::string why_down;
};

struct Quantiles {
  std::optional<double> p50_s, p95_s;  // nothing: no observation in the interval
};

struct WorkerView {
  std::string rank;
  std::string address;           // of the source; empty: only the scheduler knows of it
  std::optional<bool> attached;  // as the scheduler says it
  std::optional<double> units, slots, bytes;  // resident expert units, how many fit, their memory
  std::optional<double> hit_ratio;            // of units that a step came to load
  std::optional<double> loads_per_s;          // units copied in
  std::optional<double> stall_ms_per_s;       // time that steps waited for units
  std::optional<double> tokens_per_s, exchange_bytes_per_s;
  Quantiles step;
};

struct TopView {
  struct Source {
    std::string address, roles, why_down;  // "scheduler router worker"; why_down empty: up
  };
  std::string model;
  double interval_s = 0;
  std::vector<Source> sources;

  std::optional<double> running, waiting, kv_usage_ratio;
  std::optional<double> found_tokens_ratio;      // of tokens that entered the batch: KV was there
  std::map<std::string, double> finished_per_s;  // by finish reason
  std::optional<double> prompt_tokens_per_s, generated_tokens_per_s, steps_per_s;
  Quantiles ttft, itl, queue, step;
  std::optional<double> router_up, router_sessions, router_tokens_per_s;
  std::map<int, double> expert_tokens_per_s;  // by expert
  std::vector<WorkerView> workers;            // by rank
};

// REQUIRES: both list the same addresses in the same order. A source that is down in one of them
// has no part in what concerns the interval.
TopView MakeView(absl::Span<const SourceSample> before, absl::Span<const SourceSample> now);

// Lines of at most `columns` columns, each with its '\n' and no other control character. Nothing
// known is shown as "-".
std::string ToText(const TopView& view, int columns);
// One object; null for what is not known.
nlohmann::json ToJson(const TopView& view);

}  // namespace pregate::cli
