#include "cli/trace_events.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

namespace pregate::cli {
namespace {

using Json = nlohmann::json;

// Process ids: the scheduler's, then a rank's is its number + 1.
constexpr int kSchedulerPid = 0;
int PidOf(int32_t rank) { return rank + 1; }

// Rows of a rank, as they are shown.
enum Row { kCompute, kExchange, kLoads, kStalls, kNumRows };
constexpr std::array<const char*, kNumRows> kRowNames = {"compute", "exchange", "loads", "stalls"};

struct Kind {
  Row row;
  const char* name;
};
Kind KindOf(v1::Activity activity) {
  switch (activity) {
    case v1::ACTIVITY_ROUTER:
      return {kCompute, "router"};
    case v1::ACTIVITY_LAYERS:
      return {kCompute, "layers"};
    case v1::ACTIVITY_EMIT:
      return {kCompute, "emit"};
    case v1::ACTIVITY_EXCHANGE:
      return {kExchange, "exchange"};
    case v1::ACTIVITY_LOAD:
      return {kLoads, "load"};
    case v1::ACTIVITY_STALL:
      return {kStalls, "stall"};
    default:
      return {kCompute, "other"};
  }
}

Json Name(const char* what, int pid, int tid, const std::string& name) {
  return {{"ph", "M"}, {"name", what}, {"pid", pid}, {"tid", tid}, {"args", {{"name", name}}}};
}

Json Slice(int pid, int tid, const std::string& name, int64_t ts, int64_t dur) {
  return {{"ph", "X"}, {"name", name}, {"pid", pid}, {"tid", tid}, {"ts", ts}, {"dur", dur}};
}

Json StepArgs(const v1::ClusterStep& step) {
  return {{"number", step.number()},
          {"decode_rows", step.decode_rows()},
          {"prefill_rows", step.prefill_rows()},
          {"prefill_tokens", step.prefill_tokens()},
          {"draft_tokens", step.draft_tokens()},
          {"experts", step.experts()},
          {"unit_hits", step.unit_hits()},
          {"unit_misses", step.unit_misses()}};
}

ClockOffset OffsetOf(const WorkerClocks& clocks, const v1::ClusterRankStep& rank) {
  const auto found = clocks.find({rank.rank(), rank.incarnation()});
  return found == clocks.end() ? ClockOffset() : found->second;
}

const char* ClockName(bool device_clock) {
  return device_clock ? "device (exchange: host, steady)" : "host, steady";
}

// Plans run ahead, so that steps overlap there: each is an event of its own.
void AddRoundTrip(const v1::ClusterStep& step, int64_t zero_us, Json* events) {
  const std::string name = absl::StrCat("step ", step.number());
  for (const auto& [phase, at_us] :
       {std::pair("b", step.begin_us()), {"e", step.begin_us() + step.round_trip_us()}}) {
    events->push_back({{"ph", phase},
                       {"cat", "step"},
                       {"id", step.number()},
                       {"name", name},
                       {"pid", kSchedulerPid},
                       {"tid", 0},
                       {"ts", at_us - zero_us}});
    if (*phase == 'b') events->back()["args"] = StepArgs(step);
  }
}

void AddRankStep(const v1::ClusterStep& step, const v1::ClusterRankStep& rank, int64_t begin_us,
                 Json* events) {
  const int pid = PidOf(rank.rank());
  events->push_back(
      Slice(pid, kCompute, absl::StrCat("step ", step.number()), begin_us, rank.step_us()));
  events->back()["args"] = StepArgs(step);
  for (const v1::ActivitySpan& span : rank.activities()) {
    const Kind kind = KindOf(span.activity());
    events->push_back(
        Slice(pid, kind.row, kind.name, begin_us + span.begin_us(), span.duration_us()));
  }
}

// The earliest of all that is shown.
int64_t FirstUs(const v1::GetClusterStatusResponse& status, const WorkerClocks& clocks) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const v1::ClusterStep& step : status.steps()) {
    if (step.ranks().empty()) continue;
    first = std::min(first, step.begin_us());
    for (const v1::ClusterRankStep& rank : step.ranks()) {
      const int64_t begin = rank.begin_us() + OffsetOf(clocks, rank).offset_us;
      first = std::min(first, begin);
      for (const v1::ActivitySpan& span : rank.activities()) {
        first = std::min(first, begin + span.begin_us());
      }
    }
  }
  return first;
}

}  // namespace

WorkerClocks EstimateClocks(const v1::GetClusterStatusResponse& status) {
  struct Bounds {
    int64_t least = std::numeric_limits<int64_t>::min();
    int64_t most = std::numeric_limits<int64_t>::max();
  };
  std::map<std::pair<int32_t, uint64_t>, Bounds> all;
  for (const v1::ClusterStep& step : status.steps()) {
    for (const v1::ClusterRankStep& rank : step.ranks()) {
      Bounds& bounds = all[{rank.rank(), rank.incarnation()}];
      bounds.least = std::max(bounds.least, step.begin_us() - rank.begin_us());
      bounds.most = std::min(bounds.most, rank.answered_us() - (rank.begin_us() + rank.step_us()));
    }
  }
  WorkerClocks clocks;
  for (const auto& [worker, bounds] : all) {
    const int64_t width = bounds.most - bounds.least;
    clocks[worker] = {bounds.least + width / 2, (std::abs(width) + 1) / 2};
  }
  return clocks;
}

nlohmann::json ToTraceEvents(const v1::GetClusterStatusResponse& status, const WorkerClocks& clocks,
                             const nlohmann::json& summary) {
  const int64_t zero_us = FirstUs(status, clocks);
  Json events = Json::array(), ranks = Json::array();
  events.push_back(Name("process_name", kSchedulerPid, 0, "scheduler"));
  for (const v1::ClusterWorker& worker : status.workers()) {
    const int pid = PidOf(worker.rank());
    events.push_back(
        Name("process_name", pid, 0, absl::StrCat("rank ", worker.rank(), ": ", worker.device())));
    for (int row = 0; row < kNumRows; ++row) {
      events.push_back(Name("thread_name", pid, row, kRowNames[row]));
      events.push_back({{"ph", "M"},
                        {"name", "thread_sort_index"},
                        {"pid", pid},
                        {"tid", row},
                        {"args", {{"sort_index", row}}}});
    }
  }
  for (const v1::ClusterStep& step : status.steps()) {
    if (step.ranks().empty()) continue;
    AddRoundTrip(step, zero_us, &events);
    for (const v1::ClusterRankStep& rank : step.ranks()) {
      AddRankStep(step, rank, rank.begin_us() + OffsetOf(clocks, rank).offset_us - zero_us,
                  &events);
    }
  }
  return {
      {"displayTimeUnit", "ms"},
      {"traceEvents", std::move(events)},
      {"otherData",
       {{"model", status.model()},
        {"begin_unix_us", zero_us},
        {"clocks",
         "a rank's row is set against the scheduler's clock by when plans were sent and answers "
         "came; it may be off by clock_error_us"},
        {"ranks", summary.at("ranks")}}}};
}

nlohmann::json SummarizeTimeline(const v1::GetClusterStatusResponse& status,
                                 const WorkerClocks& clocks) {
  struct Sums {
    int64_t steps = 0, error_us = 0;
    bool device_clock = false;
    std::array<int64_t, kNumRows> row_us{};
  };
  std::map<int32_t, Sums> sums;
  int64_t num_steps = 0;
  for (const v1::ClusterStep& step : status.steps()) {
    num_steps += !step.ranks().empty();
    for (const v1::ClusterRankStep& rank : step.ranks()) {
      Sums& of_rank = sums[rank.rank()];
      ++of_rank.steps;
      of_rank.device_clock |= rank.device_clock();
      of_rank.error_us = std::max(of_rank.error_us, OffsetOf(clocks, rank).error_us);
      for (const v1::ActivitySpan& span : rank.activities()) {
        of_rank.row_us[KindOf(span.activity()).row] += span.duration_us();
      }
    }
  }
  Json ranks = Json::array();
  for (const auto& [rank, of_rank] : sums) {
    Json& entry = ranks.emplace_back(Json{{"rank", rank},
                                          {"steps", of_rank.steps},
                                          {"clock", ClockName(of_rank.device_clock)},
                                          {"clock_error_us", of_rank.error_us}});
    for (int row = 0; row < kNumRows; ++row) {
      entry[absl::StrCat(kRowNames[row], "_us")] = of_rank.row_us[row];
    }
  }
  return {{"steps", num_steps}, {"ranks", std::move(ranks)}};
}

}  // namespace pregate::cli
