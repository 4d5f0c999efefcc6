#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "cli/printable.h"
#include "cli/top/view.h"

namespace pregate::cli {
namespace {

constexpr char kUnknown[] = "-";
constexpr size_t kSharesShownMax = 8;

std::string Number(std::optional<double> value, int digits = 1) {
  return value ? absl::StrFormat("%.*f", digits, *value) : kUnknown;
}
std::string Percent(std::optional<double> ratio) {
  return ratio ? absl::StrFormat("%.1f%%", *ratio * 100) : kUnknown;
}
std::string Time(std::optional<double> seconds) {
  if (!seconds) return kUnknown;
  return *seconds < 1 ? absl::StrFormat("%.1f ms", *seconds * 1e3)
                      : absl::StrFormat("%.2f s", *seconds);
}
std::string Bytes(std::optional<double> bytes) {
  if (!bytes) return kUnknown;
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  double value = *bytes;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, value, kUnits[unit]);
}
std::string Spread(const Quantiles& q) {
  return absl::StrCat("p50 ", Time(q.p50_s), " p95 ", Time(q.p95_s));
}

// Counted in characters: text may have '·' and blocks of a bar, whose bytes are three.
std::string Clip(const std::string& line, int columns) {
  std::string clipped;
  int shown = 0;
  for (const char c : line) {
    const bool begins = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (begins && shown++ == columns) break;
    clipped += c;
  }
  return clipped;
}

std::string FinishedText(const TopView& view) {
  std::vector<std::string> parts;
  for (const auto& [reason, rate] : view.finished_per_s) {
    if (rate > 0) parts.push_back(absl::StrFormat("%s %.1f/s", reason, rate));
  }
  return parts.empty() ? "nothing" : absl::StrJoin(parts, " · ");
}

// The block of a height between 0 and 1.
const char* BlockOf(double height) {
  constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  return kBlocks[std::lround(std::clamp(height, 0.0, 1.0) * 7)];
}

// One block an expert, as high as its share of the busiest one, and the largest shares in words.
std::string ExpertsText(const std::map<int, double>& rates) {
  double sum = 0, most = 0;
  for (const auto& [expert, rate] : rates) sum += rate, most = std::max(most, rate);
  std::string bar;
  std::vector<std::pair<double, int>> shares;
  for (const auto& [expert, rate] : rates) {
    bar += BlockOf(most > 0 ? rate / most : 0);
    if (rate > 0) shares.emplace_back(-rate / sum, expert);
  }
  std::sort(shares.begin(), shares.end());
  shares.resize(std::min(shares.size(), kSharesShownMax));
  return absl::StrCat(bar, "  ", absl::StrJoin(shares, " · ", [](std::string* out, const auto& s) {
                        absl::StrAppendFormat(out, "%d: %.0f%%", s.second, -s.first * 100);
                      }));
}

std::string RouterText(const TopView& view) {
  return absl::StrCat(*view.router_up > 0 ? "up" : "DOWN", " · sessions ",
                      Number(view.router_sessions, 0), " · tokens ",
                      Number(view.router_tokens_per_s), "/s");
}

std::string ResidentText(const WorkerView& w) {
  return absl::StrCat(Number(w.units, 0), "/", Number(w.slots, 0), " ", Bytes(w.bytes));
}

std::string WorkerLine(const WorkerView& w) {
  const std::string up = !w.attached ? kUnknown : *w.attached ? "yes" : "NO";
  return absl::StrFormat("  %-4s %-4s %-20s %7s %8s %9s %9s %9s %9s %11s  %s", w.rank, up,
                         ResidentText(w), Percent(w.hit_ratio), Number(w.loads_per_s),
                         Number(w.stall_ms_per_s), Time(w.step.p50_s), Time(w.step.p95_s),
                         Number(w.tokens_per_s), Bytes(w.exchange_bytes_per_s),
                         w.address.empty() ? "(its metrics are not read)" : w.address);
}

std::vector<std::string> Lines(const TopView& view) {
  std::vector<std::string> lines;
  const auto add = [&](const char* name, const std::string& text) {
    lines.push_back(absl::StrFormat("%-9s %s", name, text));
  };
  add("model", absl::StrCat(view.model.empty() ? kUnknown : view.model, " · over ",
                            Number(view.interval_s, 2), " s"));
  add("requests",
      absl::StrCat("running ", Number(view.running, 0), " · waiting ", Number(view.waiting, 0),
                   " · queue ", Spread(view.queue), " · KV ", Percent(view.kv_usage_ratio)));
  add("finished", FinishedText(view));
  add("tokens", absl::StrCat("prompt ", Number(view.prompt_tokens_per_s), "/s · generated ",
                             Number(view.generated_tokens_per_s), "/s · found in the prefix cache ",
                             Percent(view.found_tokens_ratio)));
  add("latency", absl::StrCat("TTFT ", Spread(view.ttft), " · ITL ", Spread(view.itl)));
  add("steps", absl::StrCat(Number(view.steps_per_s), "/s · ", Spread(view.step)));
  if (view.router_up) add("router", RouterText(view));
  if (!view.expert_tokens_per_s.empty()) add("experts", ExpertsText(view.expert_tokens_per_s));
  if (!view.workers.empty()) {
    lines.push_back(absl::StrFormat("  %-4s %-4s %-20s %7s %8s %9s %9s %9s %9s %11s  %s", "rank",
                                    "up", "resident units", "hits", "loads/s", "stall ms/s",
                                    "step p50", "p95", "tokens/s", "exchange/s", "metrics"));
  }
  for (const WorkerView& worker : view.workers) lines.push_back(WorkerLine(worker));
  for (const TopView::Source& source : view.sources) {
    if (!source.why_down.empty()) add("DOWN", absl::StrCat(source.address, ": ", source.why_down));
  }
  return lines;
}

nlohmann::json NumberJson(std::optional<double> value) {
  return value && std::isfinite(*value) ? nlohmann::json(*value) : nlohmann::json();
}
nlohmann::json NumberJson(const Quantiles& q) {
  return {{"p50", NumberJson(q.p50_s)}, {"p95", NumberJson(q.p95_s)}};
}

nlohmann::json WorkerJson(const WorkerView& w) {
  return {{"rank", w.rank},
          {"metrics", w.address},
          {"up", w.attached ? nlohmann::json(*w.attached) : nlohmann::json()},
          {"resident_units", NumberJson(w.units)},
          {"slots", NumberJson(w.slots)},
          {"resident_bytes", NumberJson(w.bytes)},
          {"hit_ratio", NumberJson(w.hit_ratio)},
          {"loads_per_s", NumberJson(w.loads_per_s)},
          {"stall_ms_per_s", NumberJson(w.stall_ms_per_s)},
          {"tokens_per_s", NumberJson(w.tokens_per_s)},
          {"exchange_bytes_per_s", NumberJson(w.exchange_bytes_per_s)},
          {"step_s", NumberJson(w.step)}};
}

}  // namespace

std::string ToText(const TopView& view, int columns) {
  std::string text;
  for (const std::string& line : Lines(view)) {
    absl::StrAppend(&text, Clip(Printable(line, Layout::kCell), columns), "\n");
  }
  return text;
}

nlohmann::json ToJson(const TopView& view) {
  nlohmann::json sources = nlohmann::json::array(), workers = nlohmann::json::array();
  for (const TopView::Source& s : view.sources) {
    sources.push_back({{"address", s.address},
                       {"up", s.why_down.empty()},
                       {"roles", s.roles},
                       {"error", s.why_down}});
  }
  for (const WorkerView& w : view.workers) workers.push_back(WorkerJson(w));
  nlohmann::json experts = nlohmann::json::object();
  for (const auto& [expert, rate] : view.expert_tokens_per_s) {
    experts[std::to_string(expert)] = NumberJson(rate);
  }
  return {{"model", view.model},
          {"interval_s", view.interval_s},
          {"sources", sources},
          {"running", NumberJson(view.running)},
          {"waiting", NumberJson(view.waiting)},
          {"kv_usage_ratio", NumberJson(view.kv_usage_ratio)},
          {"finished_per_s", view.finished_per_s},
          {"prompt_tokens_per_s", NumberJson(view.prompt_tokens_per_s)},
          {"generated_tokens_per_s", NumberJson(view.generated_tokens_per_s)},
          {"found_tokens_ratio", NumberJson(view.found_tokens_ratio)},
          {"steps_per_s", NumberJson(view.steps_per_s)},
          {"ttft_s", NumberJson(view.ttft)},
          {"itl_s", NumberJson(view.itl)},
          {"queue_s", NumberJson(view.queue)},
          {"step_s", NumberJson(view.step)},
          {"router_up", NumberJson(view.router_up)},
          {"router_sessions", NumberJson(view.router_sessions)},
          {"router_tokens_per_s", NumberJson(view.router_tokens_per_s)},
          {"expert_tokens_per_s", experts},
          {"workers", workers}};
}

}  // namespace pregate::cli
