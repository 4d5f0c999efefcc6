// A real cluster of processes on loopback and a client of it, for integration tests.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/telemetry/log.h"
#include "common/tls/grpc/security.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "tests/integration/process.h"

namespace pregate::testing {

// build/PRESET/bin, given by CMake.
std::string Program(const std::string& name);

// A checkpoint of random weights, made once per test program with `pregate synth --shape tiny`.
// experts = 0: dense.
const std::string& TinyModel(int experts);

// Everything that one generation gave.
struct Generation {
  grpc::Status status;
  std::string text;
  std::vector<int32_t> ids, routes, prompt_routes;
  std::vector<std::string> logprobs, prompt_logprobs;  // a TokenProbabilities each, as its bytes
  v1::GenerateStart start;
  v1::GenerateDone done;
  bool finished = false;  // `done` arrived
};

struct ClusterOptions {
  int experts = 3;
  int workers = 1;
  bool one_process = false;  // `pregate serve`; its flags are the scheduler's
  bool tls = false;          // mutual TLS over TCP, with certificates of `pregate certs init`
  std::vector<std::string> scheduler_flags, worker_flags, router_flags;
};

// Router, workers and scheduler as processes (or all in the scheduler's). Without TLS at fixed
// addresses on Unix sockets, so that a process may be killed and come back at the same place; with
// TLS at ports of 127.0.0.1 that a process took when it started.
class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();

  void StartRouter();
  void StartWorker(int rank = 0);
  void StartScheduler();
  void StartServe();  // in the scheduler's place
  Process& router() { return *router_; }
  Process& worker(int rank = 0) { return *workers_[rank]; }
  Process& scheduler() { return *scheduler_; }

  // With TLS: DIR/ROLE for each role.
  const std::string& certs() const { return certs_; }
  // Where a process listens, once it does: "scheduler", "router", "worker0".
  std::string Listens(const std::string& name) const;
  std::string ServesMetrics(const std::string& name) const;

  bool Ready();  // grpc.health.v1 of the scheduler, asked over a new call
  // Fails the test with all logs when the cluster is not ready in 30 s.
  void AwaitReady();
  v1::Inference::Stub& stub() { return *stub_; }
  // Value of a series of the scheduler's /metrics by name (and labels); nothing when absent.
  std::optional<double> Metric(const std::string& series);
  std::string Logs() const;

 private:
  void StartFrontDoor(std::vector<std::string> argv);
  std::vector<std::string> ListenFlags(const std::string& name, Role role) const;
  std::string PortFile(const std::string& name) const { return dir_ / (name + ".json"); }
  std::string PortOf(const std::string& name, const char* which) const;
  std::string Socket(const std::string& name) const { return "unix:" + dir_.path() + "/" + name; }
  std::string LogPath(const std::string& name) const { return dir_.path() + "/" + name + ".log"; }

  TempDir dir_;
  const ClusterOptions options_;
  const std::string certs_ = dir_ / "certs";
  SystemClock clock_;
  const Log log_{"test", {.level = "error"}};
  std::unique_ptr<Security> security_;  // the test's own, as an operator
  std::unique_ptr<Process> router_, scheduler_;
  std::vector<std::unique_ptr<Process>> workers_;  // by rank
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

// Text in, `max_tokens` out, greedy when temperature is 0.
v1::GenerateRequest Request(const std::string& text, int max_tokens, float temperature = 0,
                            uint64_t seed = 0);

// Runs one generation to its end. `on_tokens` is called with the number of tokens so far; it may
// act on the cluster or the context (cancel).
using OnTokens = std::function<void(int num_tokens, grpc::ClientContext& context)>;
Generation Generate(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                    absl::Duration deadline = absl::Seconds(60),
                    const OnTokens& on_tokens = nullptr);

}  // namespace pregate::testing
