#include "refactor/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_format.h"
#include "common/base/process.h"

namespace pregate {
namespace {

// The text behind "key ... :" in a file of such lines; "" where there is none.
std::string FieldOf(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.rfind(key, 0) != 0 || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

nlohmann::json Layers(const ReportInputs& in) {
  nlohmann::json layers = nlohmann::json::array();
  for (const ArtifactLayer& layer : in.artifact->layers) {
    layers.push_back({{"shared", layer.shared.size()}, {"own", layer.own[0].size()}});
  }
  return layers;
}

nlohmann::json DomainJson(const DomainQuality& q) {
  nlohmann::json json = ToJson(q);
  json["parent_perplexity"] = std::exp(q.parent_nll);
  for (const auto& [key, nll] : {std::pair{"cut_x_parent", q.cut_nll},
                                 {"own_x_parent", q.own_nll},
                                 {"routed_x_parent", q.routed_nll}}) {
    json[key] = std::exp(nll - q.parent_nll);
  }
  json["routed_x_best"] = std::exp(q.routed_nll - q.best_nll);
  json["routed_x_nearest"] = std::exp(q.routed_nll - q.nearest_nll);
  return json;
}

nlohmann::json Means(const nlohmann::json& domains) {
  nlohmann::json means;
  for (const char* key : {"cut_x_parent", "own_x_parent", "routed_x_parent", "routed_x_best",
                          "routed_x_nearest", "best_routed", "kept_routes"}) {
    double sum = 0;
    for (const nlohmann::json& domain : domains) sum += domain[key].get<double>();
    means[key] = sum / static_cast<double>(domains.size());
  }
  return means;
}

void AddMean(nlohmann::json& of, const char* key) {
  double sum = 0;
  for (const nlohmann::json& domain : of["domains"]) sum += domain[key].get<double>();
  of["mean"][key] = sum / static_cast<double>(of["domains"].size());
}

// Perplexity ratios of each baseline by domain; what compares the routed model with one of them
// stands with the routed model's own figures.
nlohmann::json Baselines(const ReportInputs& in, nlohmann::json& report) {
  nlohmann::json baselines = in.baselines;
  const auto nll = [&](const char* name, size_t d) {
    return baselines[name]["domains"][d]["nll"].get<double>();
  };
  const bool has_parent = baselines.contains("parent");
  for (auto& [name, baseline] : baselines.items()) {
    for (size_t d = 0; d < in.domains.size(); ++d) {
      nlohmann::json& row = baseline["domains"][d];
      row["x_parent"] = std::exp(row["nll"].get<double>() - in.domains[d].parent_nll);
      if (has_parent) row["x_tuned_parent"] = std::exp(row["nll"].get<double>() - nll("parent", d));
    }
    AddMean(baseline, "x_parent");
    if (has_parent) AddMean(baseline, "x_tuned_parent");
  }
  const auto compare = [&](const char* name, const char* key, double less) {
    if (!baselines.contains(name)) return;
    for (size_t d = 0; d < in.domains.size(); ++d) {
      report["domains"][d][key] = std::exp(in.domains[d].routed_nll - nll(name, d)) - less;
    }
    AddMean(report, key);
  };
  compare("parent", "routed_x_tuned_parent", 0);
  compare("layer-router", "price_of_pregating", 1);
  return baselines;
}

// Shares of all routed tokens, by expert.
nlohmann::json ExpertUse(const std::vector<DomainQuality>& domains) {
  std::vector<double> use;
  double all = 0;
  for (const DomainQuality& q : domains) {
    use.resize(std::max(use.size(), q.expert_tokens.size()), 0);
    for (size_t e = 0; e < q.expert_tokens.size(); ++e) {
      use[e] += static_cast<double>(q.expert_tokens[e]);
      all += static_cast<double>(q.expert_tokens[e]);
    }
  }
  for (double& share : use) share /= std::max(all, 1.0);
  return use;
}

}  // namespace

nlohmann::json DescribeMachine() {
  nlohmann::json cards = nlohmann::json::array();
  std::error_code error;
  for (const auto& card : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) {
    cards.push_back(FieldOf((card.path() / "information").string(), "Model"));
  }
  return {{"processor", FieldOf("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"memory", FieldOf("/proc/meminfo", "MemTotal")},
          {"cards", cards}};
}

nlohmann::json ReportJson(const ReportInputs& in) {
  nlohmann::json report = {{"version", VersionText()},
                           {"command", in.command},
                           {"inputs", in.inputs},
                           {"machine", DescribeMachine()},
                           {"stages", in.stages},
                           {"experts", in.artifact->experts},
                           {"keep", in.artifact->keep},
                           {"intermediate", in.intermediate},
                           {"layers", Layers(in)},
                           {"artifact_bytes", in.artifact_file_bytes},
                           {"tune", in.tune}};
  if (!in.samples.is_null()) report["samples"] = in.samples;
  if (!in.tasks.empty()) report["tasks"] = in.tasks;
  if (in.domains.empty()) return report;
  report["domains"] = nlohmann::json::array();
  for (const DomainQuality& q : in.domains) report["domains"].push_back(DomainJson(q));
  report["mean"] = Means(report["domains"]);
  report["expert_use"] = ExpertUse(in.domains);
  if (!in.baselines.empty()) report["baselines"] = Baselines(in, report);
  return report;
}

void PrintReport(const nlohmann::json& report, std::ostream& out) {
  for (const nlohmann::json& domain : report.value("domains", nlohmann::json::array())) {
    out << absl::StrFormat(
        "%s: perplexity %.2f of the parent, own expert x %.3f, routed x %.3f\n",
        domain["domain"].get<std::string>(), domain["parent_perplexity"].get<double>(),
        domain["own_x_parent"].get<double>(), domain["routed_x_parent"].get<double>());
  }
  for (const nlohmann::json& task : report.value("tasks", nlohmann::json::array())) {
    out << absl::StrFormat("%s: %d items, accuracy %.3f of the parent, routed %.3f\n",
                           task["task"].get<std::string>(), task["items"].get<int>(),
                           task["parent"]["acc"].get<double>(),
                           task["routed"]["acc"].get<double>());
  }
  if (!report.contains("baselines")) return;
  const nlohmann::json& mean = report["mean"];
  out << absl::StrFormat("mean of the domains, over the parent's perplexity: routed x %.3f",
                         mean["routed_x_parent"].get<double>());
  for (const auto& [name, baseline] : report["baselines"].items()) {
    out << absl::StrFormat(", %s x %.3f", name, baseline["mean"]["x_parent"].get<double>());
  }
  if (mean.contains("price_of_pregating")) {
    out << absl::StrFormat("; price of pre-gating %+.1f%%",
                           100 * mean["price_of_pregating"].get<double>());
  }
  out << "\n";
}

}  // namespace pregate
