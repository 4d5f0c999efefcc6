#include "sim/comparison.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace pregate::sim {
namespace {

constexpr double kWidth = 960, kPanelHeight = 220, kLeft = 70, kTop = 60, kGap = 70;
constexpr const char* kColours[] = {"#4477aa", "#ee6677", "#228833", "#ccbb44",
                                    "#aa3377", "#66ccee", "#bbbbbb", "#000000"};

double Quotient(double a, double b) { return b == 0 ? 0 : a / b; }

std::string NameOf(const ComparedRun& run) { return absl::StrCat(run.policy, ", ", run.cache); }

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

template <typename T, typename Key>
std::vector<T> Distinct(absl::Span<const ComparedRun> runs, Key key) {
  std::vector<T> values;
  for (const ComparedRun& run : runs) {
    if (std::find(values.begin(), values.end(), key(run)) == values.end()) {
      values.push_back(key(run));
    }
  }
  return values;
}

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
                         Escaped(text));
}

std::string Bar(double x, double y, double width, double height, const char* colour,
                const std::string& hint) {
  return absl::StrFormat(
      "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"><title>%s</title>"
      "</rect>\n",
      x, y, width, height, colour, Escaped(hint));
}

// One measure over all runs, grouped by slots. `whisker` may be null.
class Panel {
 public:
  using Measure = std::function<double(const Report&)>;

  Panel(absl::Span<const ComparedRun> runs, double top, std::string label, Measure value,
        Measure whisker)
      : runs_(runs), top_(top), label_(std::move(label)), value_(value), whisker_(whisker) {
    for (const ComparedRun& run : runs) {
      max_ = std::max({max_, value_(run.report), whisker_ ? whisker_(run.report) : 0});
    }
  }

  std::string Svg() const {
    const auto slots = Distinct<int32_t>(runs_, [](const ComparedRun& r) { return r.slots; });
    const auto names = Distinct<std::string>(runs_, NameOf);
    const double group = (kWidth - kLeft - 20) / static_cast<double>(slots.size());
    const double width = group * 0.85 / static_cast<double>(names.size());
    std::string out = Axis();
    for (const ComparedRun& run : runs_) {
      const auto g = std::find(slots.begin(), slots.end(), run.slots) - slots.begin();
      const auto n = std::find(names.begin(), names.end(), NameOf(run)) - names.begin();
      const double x = kLeft + group * static_cast<double>(g) + width * static_cast<double>(n);
      absl::StrAppend(&out, BarOf(run, x, width, kColours[n % std::size(kColours)]));
    }
    for (size_t g = 0; g < slots.size(); ++g) {
      const double x = kLeft + group * (static_cast<double>(g) + 0.43);
      absl::StrAppend(&out, Text(x, Y(0) + 18, "middle", absl::StrCat(slots[g], " slots")));
    }
    return out;
  }

 private:
  double Y(double value) const { return top_ + kPanelHeight * (1 - Quotient(value, max_)); }
  std::string Axis() const {
    std::string out = Text(kLeft, top_ - 10, "start", label_);
    constexpr int kTicks = 4;
    for (int i = 0; i <= kTicks; ++i) {
      const double value = max_ * i / kTicks;
      absl::StrAppendFormat(&out,
                            "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" "
                            "stroke=\"#ddd\"/>\n",
                            kLeft, kWidth - 10, Y(value), Y(value));
      absl::StrAppend(&out, Text(kLeft - 8, Y(value) + 4, "end", absl::StrFormat("%.3g", value)));
    }
    return out;
  }
  std::string BarOf(const ComparedRun& run, double x, double width, const char* colour) const {
    const double value = value_(run.report);
    const std::string hint = absl::StrFormat("%s, %d slots: %.4g", NameOf(run), run.slots, value);
    std::string out = Bar(x, Y(value), width * 0.9, Y(0) - Y(value), colour, hint);
    if (whisker_) {
      const double y = Y(whisker_(run.report));
      absl::StrAppendFormat(&out, "<path d=\"M%.1f %.1fV%.1fM%.1f %.1fh%.1f\" stroke=\"#333\"/>\n",
                            x + width * 0.45, Y(value), y, x + width * 0.25, y, width * 0.4);
    }
    return out;
  }

  const absl::Span<const ComparedRun> runs_;
  const double top_;
  const std::string label_;
  const Measure value_, whisker_;
  double max_ = 0;
};

std::string Legend(absl::Span<const ComparedRun> runs) {
  const auto names = Distinct<std::string>(runs, NameOf);
  std::string out;
  for (size_t n = 0; n < names.size(); ++n) {
    const double x = kLeft + static_cast<double>(n % 5) * 178;
    const double y = kTop + 2 * (kPanelHeight + kGap) + static_cast<double>(n / 5) * 18;
    absl::StrAppend(&out, Bar(x, y - 10, 12, 12, kColours[n % std::size(kColours)], names[n]),
                    Text(x + 18, y, "start", names[n]));
  }
  return out;
}

}  // namespace

double LoadsOverOptimum(const Report& report) {
  if (report.window_optimal_loads == 0) return 1;
  return static_cast<double>(report.window_loads) /
         static_cast<double>(report.window_optimal_loads);
}

std::string ToTable(absl::Span<const ComparedRun> runs) {
  std::string out =
      "| slots | policy | cache | normalized latency, s: mean / p95 | TTFT, s: mean / p95 | ITL, "
      "ms: "
      "p50 / p99 | tokens/s | experts a step | reuse (optimum) | loads / optimum's | stall, s |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n";
  for (const ComparedRun& run : runs) {
    const Report& r = run.report;
    const auto window = static_cast<double>(std::max<int64_t>(r.window_references, 1));
    absl::StrAppendFormat(
        &out, "| %d | %s | %s | %.4f / %.4f | %.2f / %.2f | %.1f / %.0f | %.1f | %.2f | ",
        run.slots, run.policy, run.cache, r.normalized.mean, r.normalized.p95, r.ttft.mean,
        r.ttft.p95, r.itl.p50 * 1e3, r.itl.p99 * 1e3, Quotient(r.generated_tokens, r.virtual_s),
        Quotient(r.steps.experts, r.steps.steps));
    absl::StrAppendFormat(&out, "%.3f (%.3f) | %.2f | %.0f |\n", 1 - r.window_loads / window,
                          1 - r.window_optimal_loads / window, LoadsOverOptimum(r),
                          absl::ToDoubleSeconds(r.cache.stall));
  }
  return out;
}

std::string ToSvg(absl::Span<const ComparedRun> runs, const std::string& title) {
  std::string out = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, kTop + 2 * (kPanelHeight + kGap) + 60);
  absl::StrAppend(&out, Text(kLeft, 24, "start", title));
  const Panel latency(
      runs, kTop, "normalized latency, s: mean (line: p95)",
      [](const Report& r) { return r.normalized.mean; },
      [](const Report& r) { return r.normalized.p95; });
  const Panel loads(runs, kTop + kPanelHeight + kGap, "loads over the optimum's on the same order",
                    LoadsOverOptimum, nullptr);
  absl::StrAppend(&out, latency.Svg(), loads.Svg(), Legend(runs), "</svg>\n");
  return out;
}

}  // namespace pregate::sim
