#include "gateway_service/core/cluster_status.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/json_text.h"

namespace pregate::gateway {
namespace {

// JSON has no NaN: what another process says is cut to 0..1.
double Share(double ratio) { return ratio > 0 ? std::min(ratio, 1.0) : 0; }

const char* Bool(bool value) { return value ? "true" : "false"; }

template <typename Items, typename Append>
void AppendList(std::string* out, const Items& items, Append append) {
  out->push_back('[');
  for (const auto& item : items) {
    if (out->back() != '[') out->push_back(',');
    append(out, item);
  }
  out->push_back(']');
}

char LetterOf(char state) {
  constexpr absl::string_view kLetters = ".lrx";
  const auto index = static_cast<unsigned char>(state);
  return index < kLetters.size() ? kLetters[index] : '?';
}

// Nothing of a worker whose bytes are no whole layers.
std::vector<std::string> LayersOf(absl::string_view units, size_t num_experts) {
  std::vector<std::string> layers;
  if (num_experts == 0 || units.size() % num_experts != 0) return layers;
  for (; !units.empty(); units.remove_prefix(num_experts)) {
    std::string& layer = layers.emplace_back();
    for (const char state : units.substr(0, num_experts)) layer.push_back(LetterOf(state));
  }
  return layers;
}

void AppendWorker(std::string* out, const WorkerStatus& worker, int32_t num_experts) {
  absl::StrAppend(out, R"({"rank":)", worker.rank, R"(,"up":)", Bool(worker.up), R"(,"member":)",
                  Bool(worker.member), R"(,"device":)", JsonString(worker.device),
                  R"(,"unit_slots":)", worker.unit_slots, R"(,"units":)");
  AppendList(out, LayersOf(worker.units, num_experts),
             [](std::string* to, const std::string& layer) { AppendJsonString(to, layer); });
  absl::StrAppend(out, R"(,"unit_hits":)", worker.unit_hits, R"(,"unit_misses":)",
                  worker.unit_misses, R"(,"stall_us":)", worker.stall_us, "}");
}

void AppendStep(std::string* out, const StepStatus& step) {
  absl::StrAppend(out, R"({"number":)", step.number, R"(,"begin_us":)", step.begin_us,
                  R"(,"round_trip_us":)", step.round_trip_us, R"(,"step_us":)", step.step_us);
  absl::StrAppend(out, R"(,"decode_rows":)", step.decode_rows, R"(,"prefill_rows":)",
                  step.prefill_rows, R"(,"prefill_tokens":)", step.prefill_tokens,
                  R"(,"draft_tokens":)", step.draft_tokens, R"(,"accepted_draft_tokens":)",
                  step.accepted_draft_tokens, R"(,"experts":)");
  AppendJsonArray(out, step.experts);
  absl::StrAppend(out, R"(,"unique_experts":)", step.unique_experts, R"(,"unit_hits":)",
                  step.unit_hits, R"(,"unit_misses":)", step.unit_misses, R"(,"stall_us":)",
                  step.stall_us, "}");
}

void AppendScheduler(std::string* out, const SchedulerStatus& scheduler) {
  absl::StrAppend(out, R"({"name":)", JsonString(scheduler.name), R"(,"error":)",
                  scheduler.cell ? "null" : JsonString(scheduler.why_not));
  if (scheduler.cell) {
    const CellStatus& cell = *scheduler.cell;
    absl::StrAppend(out, R"(,"model":)", JsonString(cell.model), R"(,"num_experts":)",
                    cell.num_experts, R"(,"serving":)", Bool(cell.serving), R"(,"epoch":)",
                    cell.epoch, R"(,"router_up":)", Bool(cell.router_up));
    absl::StrAppend(out, R"(,"requests":{"running":)", cell.requests_running, R"(,"waiting":)",
                    cell.requests_waiting, R"(},"kv_blocks":{"all":)", cell.kv_blocks,
                    R"(,"used":)", cell.kv_blocks_used, R"(,"cached":)", cell.kv_blocks_cached,
                    R"(},"reuse":{"ratio":)", Share(cell.reuse_ratio), R"(,"optimal":)",
                    Share(cell.optimal_reuse_ratio), R"(},"routed_ahead_tokens":)",
                    cell.routed_ahead_tokens, R"(,"workers":)");
    AppendList(out, cell.workers, [&](std::string* to, const WorkerStatus& worker) {
      AppendWorker(to, worker, cell.num_experts);
    });
    absl::StrAppend(out, R"(,"steps":)");
    AppendList(out, cell.steps, AppendStep);
  }
  out->push_back('}');
}

}  // namespace

std::string ClusterBody(absl::Span<const SchedulerStatus> schedulers) {
  std::string out = R"({"object":"cluster","schedulers":)";
  AppendList(&out, schedulers, AppendScheduler);
  out.push_back('}');
  return out;
}

}  // namespace pregate::gateway
