#include "tests/integration/cluster.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/http/http_get.h"
#include "common/rpc/channel.h"
#include "common/rpc/health_client.h"

namespace pregate::testing {
namespace {

std::vector<std::string> Join(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void AwaitPortFile(Process& process, const std::string& path, const std::string& name) {
  const bool up =
      WaitUntil([&] { return !ReadFile(path).empty() || !process.running(); }, absl::Seconds(60));
  ASSERT_TRUE(up && process.running()) << name << " did not start:\n" << process.Log();
}

}  // namespace

std::string Program(const std::string& name) { return std::string(PREGATE_BIN_DIR) + "/" + name; }

const std::string& TinyModel(int experts) {
  static auto* dir = new TempDir();
  static auto* models = new std::map<int, std::string>();
  auto [it, is_new] = models->try_emplace(experts, *dir / absl::StrCat("tiny-", experts));
  if (is_new) {
    std::vector<std::string> argv = {
        Program("pregate"),    "synth",  "--shape", "tiny",  "--experts",
        absl::StrCat(experts), "--seed", "7",       "--out", it->second};
    if (experts > 0) argv = Join(argv, {"--shared", "0.2", "--own", "0.3"});
    const Finished made = RunProgram(argv);
    PREGATE_CHECK(made.exit_code == 0, "synth: ", made.err);
  }
  return it->second;
}

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)) {
  if (options_.tls) {
    const Finished made = RunProgram({Program("pregate"), "certs", "init", "--dir", certs_});
    PREGATE_CHECK(made.exit_code == 0, "certs: ", made.err);
  }
  auto security = Security::Load({.dir = options_.tls ? certs_ + "/operator" : ""},
                                 {Role::kOperator}, &log_, &clock_);
  PREGATE_CHECK(security.ok(), "", security.status().message());
  security_ = *std::move(security);
  if (options_.one_process) {
    StartServe();
  } else {
    if (options_.experts > 0) StartRouter();
    workers_.resize(options_.workers);
    for (int rank = 0; rank < options_.workers; ++rank) StartWorker(rank);
    StartScheduler();
  }
  auto address = ParseAddress(Listens("scheduler"));
  PREGATE_CHECK(address.ok());
  channel_ = MakeChannel(*address, kClientMessageBytesMax, *security_, {Role::kScheduler});
  stub_ = v1::Inference::NewStub(channel_);
}

Cluster::~Cluster() {
  if (::testing::Test::HasFailure()) std::fprintf(stderr, "%s\n", Logs().c_str());
}

std::vector<std::string> Cluster::ListenFlags(const std::string& name, Role role) const {
  std::remove(PortFile(name).c_str());
  std::vector<std::string> flags = {"--metrics-listen", "127.0.0.1:0", "--port-file",
                                    PortFile(name)};
  if (!options_.tls) return Join(flags, {"--listen", Socket(name)});
  return Join(flags, {"--listen", "127.0.0.1:0", "--tls-dir", certs_ + "/" + RoleName(role)});
}

std::string Cluster::PortOf(const std::string& name, const char* which) const {
  return nlohmann::json::parse(ReadFile(PortFile(name))).at(which).get<std::string>();
}

std::string Cluster::Listens(const std::string& name) const {
  return options_.tls ? PortOf(name, "listen") : Socket(name);
}

std::string Cluster::ServesMetrics(const std::string& name) const {
  return PortOf(name, "metrics");
}

void Cluster::StartRouter() {
  router_ = std::make_unique<Process>(Join(Join({Program("pregate-router"), "--model",
                                                 TinyModel(options_.experts), "--threads", "1"},
                                                ListenFlags("router", Role::kRouter)),
                                           options_.router_flags),
                                      LogPath("router"));
  if (options_.tls) AwaitPortFile(*router_, PortFile("router"), "router");
}

void Cluster::StartWorker(int rank) {
  const std::string name = absl::StrCat("worker", rank);
  workers_[rank] = std::make_unique<Process>(
      Join(Join({Program("pregate-worker"), "--model", TinyModel(options_.experts), "--threads",
                 "1", "--dtype", "f32", "--rank", absl::StrCat(rank), "--world-size",
                 absl::StrCat(options_.workers)},
                ListenFlags(name, Role::kWorker)),
           options_.worker_flags),
      LogPath(name));
  if (options_.tls) AwaitPortFile(*workers_[rank], PortFile(name), name);
}

void Cluster::StartScheduler() {
  std::vector<std::string> workers;
  for (int rank = 0; rank < options_.workers; ++rank) {
    workers.push_back(Listens(absl::StrCat("worker", rank)));
  }
  std::vector<std::string> argv = {Program("pregate-scheduler"), "--workers",
                                   absl::StrJoin(workers, ",")};
  if (options_.experts > 0) argv = Join(argv, {"--router", Listens("router")});
  StartFrontDoor(std::move(argv));
}

void Cluster::StartServe() {
  StartFrontDoor({Program("pregate"), "serve", "--threads", "1", "--dtype", "f32"});
}

void Cluster::StartFrontDoor(std::vector<std::string> argv) {
  argv = Join(Join(std::move(argv), {"--model", TinyModel(options_.experts)}),
              ListenFlags("scheduler", Role::kScheduler));
  scheduler_ =
      std::make_unique<Process>(Join(argv, options_.scheduler_flags), LogPath("scheduler"));
  AwaitPortFile(*scheduler_, PortFile("scheduler"), argv[0]);
}

bool Cluster::Ready() {
  const auto serving = IsServing(channel_, absl::Seconds(1));
  return serving.ok() && *serving;
}

void Cluster::AwaitReady() {
  ASSERT_TRUE(WaitUntil([&] { return Ready(); }, absl::Seconds(30))) << Logs();
}

std::optional<double> Cluster::Metric(const std::string& series) {
  PREGATE_CHECK(!options_.tls, "Metric asks in plaintext");
  auto address = ParseAddress(ServesMetrics("scheduler"));
  PREGATE_CHECK(address.ok());
  const auto response = HttpGet(*address, "/metrics");
  if (!response.ok()) return std::nullopt;
  for (absl::string_view line : absl::StrSplit(response->body, '\n')) {
    if (absl::ConsumePrefix(&line, series) && absl::ConsumePrefix(&line, " ")) {
      return std::stod(std::string(line));
    }
  }
  return std::nullopt;
}

std::string Cluster::Logs() const {
  std::string logs;
  std::vector<std::string> names = {"router", "scheduler"};
  for (int rank = 0; rank < options_.workers; ++rank) names.push_back(absl::StrCat("worker", rank));
  for (const std::string& name : names) {
    logs += absl::StrCat("== ", name, "\n", ReadFile(LogPath(name)));
  }
  return logs;
}

v1::GenerateRequest Request(const std::string& text, int max_tokens, float temperature,
                            uint64_t seed) {
  v1::GenerateRequest request;
  request.set_text(text);
  request.set_max_tokens(max_tokens);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_temperature(temperature);
  request.mutable_sampling()->set_seed(seed);
  request.set_return_routes(true);
  return request;
}

Generation Generate(v1::Inference::Stub& stub, const v1::GenerateRequest& request,
                    absl::Duration deadline, const OnTokens& on_tokens) {
  Generation out;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  auto stream = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
    if (response.has_start()) {
      out.start = response.start();
      out.prompt_routes.assign(out.start.prompt_routes().begin(), out.start.prompt_routes().end());
    } else if (response.has_tokens()) {
      const auto& tokens = response.tokens();
      out.ids.insert(out.ids.end(), tokens.ids().begin(), tokens.ids().end());
      out.routes.insert(out.routes.end(), tokens.routes().begin(), tokens.routes().end());
      for (const auto& one : tokens.logprobs()) out.logprobs.push_back(one.SerializeAsString());
      out.text += tokens.text();
      if (on_tokens) on_tokens(static_cast<int>(out.ids.size()), context);
    } else if (response.has_prompt()) {
      for (const auto& one : response.prompt().logprobs()) {
        out.prompt_logprobs.push_back(one.SerializeAsString());
      }
    } else if (response.has_done()) {
      out.done = response.done();
      out.finished = true;
    }
  }
  out.status = stream->Finish();
  return out;
}

}  // namespace pregate::testing
