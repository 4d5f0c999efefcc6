// The HTML form of a report (report.h).
#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "refactor/report.h"

namespace pregate {
namespace {

constexpr char kHead[] = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>pregate refactor</title><style>
body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}
td:first-child,th:first-child{text-align:left}svg{background:#fafafa;border:1px solid #ccc}
pre{background:#f4f4f4;padding:.6em;white-space:pre-wrap}
</style></head><body>
)";

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string Row(const char* cell, const std::vector<std::string>& texts) {
  std::string row = "<tr>";
  for (const std::string& text : texts) {
    absl::StrAppend(&row, "<", cell, ">", Escaped(text), "</", cell, ">");
  }
  return row + "</tr>\n";
}

std::string Percent(double share) { return absl::StrFormat("%.1f%%", 100 * share); }
std::string SignedPercent(double share) { return absl::StrFormat("%+.1f%%", 100 * share); }
std::string Ratio(double ratio) { return absl::StrFormat("%.3f", ratio); }

std::vector<std::string> Names(const nlohmann::json& report) {
  return report["experts"].get<std::vector<std::string>>();
}

// A line for each figure, a column for each domain, and the mean where there is one.
std::string QualityTable(const nlohmann::json& report) {
  std::vector<std::string> head = {""};
  for (const std::string& name : Names(report)) head.push_back(name);
  head.push_back("mean");
  std::string html = "<h2>Held-out text</h2><table>\n" + Row("th", head);
  const auto line = [&](const char* text, const char* key, const auto& format) {
    std::vector<std::string> cells = {text};
    for (const nlohmann::json& domain : report["domains"]) {
      cells.push_back(format(domain[key].template get<double>()));
    }
    const bool mean = report["mean"].contains(key);
    cells.push_back(mean ? format(report["mean"][key].template get<double>()) : "");
    html += Row("td", cells);
  };
  line("tokens scored", "tokens", [](double n) { return absl::StrFormat("%.0f", n); });
  line("parent's perplexity", "parent_perplexity",
       [](double p) { return absl::StrFormat("%.2f", p); });
  line("own expert before tuning, x parent", "cut_x_parent", Ratio);
  line("own expert, x parent", "own_x_parent", Ratio);
  line("routed, x parent", "routed_x_parent", Ratio);
  if (report["mean"].contains("routed_x_tuned_parent")) {
    line("routed, x tuned parent", "routed_x_tuned_parent", Ratio);
  }
  if (report["mean"].contains("price_of_pregating")) {
    line("price of pre-gating", "price_of_pregating", SignedPercent);
  }
  line("routed, x best expert of each token", "routed_x_best", Ratio);
  line("routed, x expert next to the parent, of each token", "routed_x_nearest", Ratio);
  line("tokens routed to that best expert", "best_routed", Percent);
  line("tokens that keep the expert before", "kept_routes", Percent);
  return html + "</table>\n";
}

// Of each baseline the perplexity over the untuned parent's, and over the tuned one's where that is
// one of them.
std::string BaselineTable(const nlohmann::json& report) {
  std::vector<std::string> head = {"tuned alike"};
  for (const std::string& name : Names(report)) head.push_back(name);
  head.push_back("mean");
  std::string html = "<h2>Baselines</h2><table>\n" + Row("th", head);
  for (const auto& [name, baseline] : report["baselines"].items()) {
    for (const auto& [key, text] :
         {std::pair("x_parent", ", x parent"), std::pair("x_tuned_parent", ", x tuned parent")}) {
      if (!baseline["mean"].contains(key) || name + key == "parentx_tuned_parent") continue;
      std::vector<std::string> cells = {name + text};
      for (const nlohmann::json& domain : baseline["domains"]) {
        cells.push_back(Ratio(domain[key].get<double>()));
      }
      cells.push_back(Ratio(baseline["mean"][key].get<double>()));
      html += Row("td", cells);
    }
  }
  return html + "</table>\n";
}

std::string TaskTable(const nlohmann::json& report) {
  std::string html = "<h2>Zero-shot tasks</h2><table>\n" +
                     Row("th", {"task", "items", "chance", "parent", "routed",
                                "of the parent's margin over chance"});
  for (const nlohmann::json& task : report["tasks"]) {
    html += Row(
        "td", {task["task"].get<std::string>(), absl::StrCat(task["items"].get<int>()),
               Percent(task["chance"].get<double>()), Percent(task["parent"]["acc"].get<double>()),
               Percent(task["routed"]["acc"].get<double>()),
               task.contains("margin_kept") ? Percent(task["margin_kept"].get<double>())
                                            : std::string()});
  }
  return html + "</table>\n";
}

std::string UseTable(const nlohmann::json& report) {
  const std::vector<std::string> names = Names(report);
  std::vector<std::string> head = {"text"};
  head.insert(head.end(), names.begin(), names.end());
  std::string html = "<h2>Experts that the router names</h2><table>\n" + Row("th", head);
  for (const nlohmann::json& domain : report["domains"]) {
    std::vector<std::string> cells = {domain["domain"].get<std::string>()};
    double all = 0;
    for (const auto& n : domain["expert_tokens"]) all += n.get<double>();
    for (const auto& n : domain["expert_tokens"]) {
      cells.push_back(Percent(n.get<double>() / std::max(all, 1.0)));
    }
    html += Row("td", cells);
  }
  std::vector<std::string> cells = {"all"};
  for (const auto& share : report["expert_use"]) cells.push_back(Percent(share.get<double>()));
  return html + Row("td", cells) + "</table>\n";
}

// The values of `key` by step, as points of a polyline in a box of width x height.
std::string Points(const nlohmann::json& losses, const char* key, double low, double high,
                   double width, double height) {
  std::string points;
  const double last = std::max<double>(1, losses.back()["step"].get<double>());
  for (const nlohmann::json& row : losses) {
    const double y = (row[key].get<double>() - low) / std::max(high - low, 1e-9);
    absl::StrAppendFormat(&points, "%.1f,%.1f ", width * row["step"].get<double>() / last,
                          height * (1 - y));
  }
  return points;
}

std::string LossCurve(const nlohmann::json& losses, const char* key, const char* title) {
  constexpr double kWidth = 640, kHeight = 180;
  double low = INFINITY, high = -INFINITY;
  for (const nlohmann::json& row : losses) {
    low = std::min(low, row[key].get<double>());
    high = std::max(high, row[key].get<double>());
  }
  return absl::StrFormat(
      "<h3>%s: %.4f to %.4f, at the end %.4f</h3>\n<svg viewBox=\"-4 -4 %.0f %.0f\" width=\"%.0f\">"
      "<polyline fill=\"none\" stroke=\"#1565c0\" points=\"%s\"/></svg>\n",
      title, low, high, losses.back()[key].get<double>(), kWidth + 8, kHeight + 8, kWidth,
      Points(losses, key, low, high, kWidth, kHeight));
}

std::string WidthTable(const nlohmann::json& report) {
  std::string html = "<h2>Neurons of each layer</h2><table>\n" +
                     Row("th", {"layer", "shared", "own of each expert", "of"});
  const std::string width = report["intermediate"].dump();
  int layer = 0;
  for (const nlohmann::json& widths : report["layers"]) {
    html +=
        Row("td", {absl::StrCat(layer++), widths["shared"].dump(), widths["own"].dump(), width});
  }
  return html + "</table>\n";
}

std::string Pre(const char* title, const std::string& text) {
  return absl::StrCat("<h2>", title, "</h2><pre>", Escaped(text), "</pre>\n");
}

}  // namespace

std::string ReportHtml(const nlohmann::json& report, const nlohmann::json& losses) {
  std::string html = kHead;
  absl::StrAppend(&html, "<h1>pregate refactor: ", report["experts"].size(), " experts of ",
                  Percent(report["keep"].get<double>()), " of a layer's neurons</h1>\n");
  if (report.contains("domains")) html += QualityTable(report) + UseTable(report);
  if (report.contains("tasks")) html += TaskTable(report);
  if (report.contains("baselines")) html += BaselineTable(report);
  if (!losses.empty()) {
    html += "<h2>Tuning</h2>\n" + LossCurve(losses, "kl", "divergence from the parent, nats") +
            LossCurve(losses, "nll", "the text's own loss, nats");
  }
  if (report.contains("samples")) {
    html += absl::StrFormat(
        "<p>%d tokens that the parent wrote, in %.0f s, were tuned on too.</p>\n",
        report["samples"]["tokens"].get<int64_t>(), report["samples"]["seconds"].get<double>());
  }
  html += WidthTable(report);
  html += Pre("Command", report["command"].get<std::string>());
  html += Pre("Made from", report["inputs"].dump(1));
  html += Pre("Stages", report["stages"].dump(1));
  html += Pre("Machine", report["machine"].dump(1) + "\n" + report["version"].dump());
  return html + "</body></html>\n";
}

}  // namespace pregate
