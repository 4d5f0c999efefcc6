// `pregate trace`: the timeline of a running cluster's last steps, for Perfetto.
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/remote_server.h"
#include "cli/trace_events.h"
#include "common/base/files.h"
#include "common/base/gateway_limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/status.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate::cli {
namespace {

struct TraceOptions {
  std::string server = "127.0.0.1:7600", out;
  TlsOptions tls;
  int32_t steps = 50;
  absl::Duration timeout = absl::Seconds(10);
  bool as_json = false;
};

void Declare(OptionSet& set, TraceOptions* o) {
  set.String("server", &o->server, "HOST:PORT or unix:PATH of a running scheduler");
  DeclareTlsOptions(set, &o->tls);
  set.Int("steps", &o->steps, 1, kStepsShownMax, "steps", "of the last ones, so many");
  set.String("out", &o->out, "file for ui.perfetto.dev or chrome://tracing").Required();
  set.Duration("timeout-s", &o->timeout, absl::Milliseconds(1), absl::Hours(1), "for the answer")
      .Environment("PREGATE_TRACE_TIMEOUT_S");  // 0 means no limit to others, and nothing here
  set.Switch("json", &o->as_json, "print what the steps took in all as one JSON object");
}

absl::StatusOr<v1::GetClusterStatusResponse> Ask(const RemoteServer& remote,
                                                 const TraceOptions& options) {
  v1::GetClusterStatusRequest request;
  request.set_timeline_steps(options.steps);
  v1::GetClusterStatusResponse response;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + options.timeout));
  RETURN_IF_ERROR(remote.Explain(FromGrpcStatus(
      v1::Inference::NewStub(remote.channel())->GetClusterStatus(&context, request, &response))));
  return response;
}

void PrintText(const nlohmann::json& summary) {
  std::printf("%s steps in %s\n", summary.at("steps").dump().c_str(),
              summary.at("file").get<std::string>().c_str());
  for (const nlohmann::json& rank : summary.at("ranks")) {
    const auto ms = [&](const char* row) { return rank.at(row).get<double>() / 1e3; };
    std::printf("rank %d: compute %.1f ms, exchange %.1f ms, loads %.1f ms, stalls %.1f ms (%s)\n",
                rank.at("rank").get<int>(), ms("compute_us"), ms("exchange_us"), ms("loads_us"),
                ms("stalls_us"), rank.at("clock").get<std::string>().c_str());
  }
}

// A worker named its device.
std::string Dump(const nlohmann::json& events) {
  return events.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::Status RunTrace(const RemoteServer& remote, const TraceOptions& options) {
  ASSIGN_OR_RETURN(const v1::GetClusterStatusResponse status, Ask(remote, options));
  const WorkerClocks clocks = EstimateClocks(status);
  nlohmann::json summary = SummarizeTimeline(status, clocks);
  if (summary.at("ranks").empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--server ", options.server, " has no step with a timeline to show yet"));
  }
  RETURN_IF_ERROR(WriteOutput(options.out, Dump(ToTraceEvents(status, clocks, summary))));
  summary["file"] = options.out;
  if (options.as_json) {
    PrintJson(summary);
  } else {
    PrintText(summary);
  }
  return absl::OkStatus();
}

}  // namespace

int Trace(int argc, const char* const* argv) {
  TraceOptions options;
  OptionSet set("pregate trace",
                "Writes when each worker did what in a running cluster's last steps.");
  Declare(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "trace", argc, argv);
  const auto remote = RemoteServer::Open(options.server, options.tls,
                                         {Role::kClient, Role::kOperator}, {Role::kScheduler});
  if (!remote.ok()) return FailUsage("trace", remote.status());
  const absl::Status status = RunTrace(**remote, options);
  return status.ok() ? kExitOk : Fail("trace", status);
}

}  // namespace pregate::cli
