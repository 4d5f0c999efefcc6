// What a run made and what it costs, as JSON and as one HTML page that needs nothing else.
#pragma once

#include <ostream>
#include <string>

#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "refactor/artifact.h"
#include "refactor/evaluate.h"

namespace pregate {

struct ReportInputs {
  std::string command;    // the options that were given
  nlohmann::json inputs;  // digests, seed and all that decides the result
  nlohmann::json stages;  // seconds and peak memory by stage
  const Artifact* artifact = nullptr;
  int intermediate = 0;
  int64_t artifact_file_bytes = 0;
  nlohmann::json tune;                 // of the record "tune.json"
  nlohmann::json samples;              // of the record "sample.json"; null: none
  std::vector<DomainQuality> domains;  // empty: not evaluated
  nlohmann::json tasks;                // [TaskScores]; empty: none
  nlohmann::json baselines;            // {name: {"domains": [BaselineQuality], of "tune.json"}}
  nlohmann::json losses;               // [{step, loss, kl, nll, rate, ...}]
};

// Ratios of perplexity, the price of pre-gating (the routed model's perplexity over that of baseline
// layer-router, less 1), balance and means over domains are worked out here. Without losses, which
// have a file of their own.
nlohmann::json ReportJson(const ReportInputs& inputs);
// What a person reads at the end: a line a domain, a line a task, one of the baselines.
void PrintReport(const nlohmann::json& report, std::ostream& out);
std::string ReportHtml(const nlohmann::json& report, const nlohmann::json& losses);

// Processor, cores, memory and cards of this machine.
nlohmann::json DescribeMachine();

}  // namespace pregate
