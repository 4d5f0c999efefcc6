// A real cluster of processes on loopback and a client of it, for integration tests.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
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
  v1::GenerateStart start;
  v1::GenerateDone done;
  bool finished = false;  // `done` arrived
};

struct ClusterOptions {
  int experts = 3;
  int workers = 1;
  bool one_process = false;  // `pregate serve`; its flags are the scheduler's
  std::vector<std::string> scheduler_flags, worker_flags, router_flags;
};

// Router, workers and scheduler as processes (or all in the scheduler's). Fixed addresses on Unix
// sockets, so that a process may be killed and come back at the same place.
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

  bool Ready();  // grpc.health.v1 of the scheduler, asked over a new call
  // Fails the test with all logs when the cluster is not ready in 30 s.
  void AwaitReady();
  v1::Inference::Stub& stub() { return *stub_; }
  // Value of a series of the scheduler's /metrics by name (and labels); nothing when absent.
  std::optional<double> Metric(const std::string& series);
  std::string Logs() const;

 private:
  void StartFrontDoor(std::vector<std::string> argv);
  std::string Socket(const std::string& name) const { return "unix:" + dir_.path() + "/" + name; }
  std::string LogPath(const std::string& name) const { return dir_.path() + "/" + name + ".log"; }

  TempDir dir_;
  const ClusterOptions options_;
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
