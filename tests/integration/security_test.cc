// A cluster of processes over mutual TLS, by the programs' own options.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/config/address.h"
#include "common/http/http_get.h"
#include "tests/integration/cluster.h"

namespace pregate::testing {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Prompt(int i) {
  return Request(absl::StrCat("Prompt number ", i, ": once upon a time"), 24, i % 2 ? 0.9f : 0.0f,
                 100 + i);
}

// OpenSSL writes without MSG_NOSIGNAL, so whoever speaks TLS through it must not die of a peer that
// leaves.
bool IgnoresSigpipe(const Process& process) {
  const std::string status = ReadFile(absl::StrCat("/proc/", process.pid(), "/status"));
  const size_t at = status.find("SigIgn:\t");
  return at != std::string::npos &&
         (std::stoull(status.substr(at + 8), nullptr, 16) >> (SIGPIPE - 1)) % 2 == 1;
}

// GET of the scheduler's metrics port as `role`; "" shows no certificate. Status and body, 0 when
// there was no answer.
std::pair<int, std::string> HttpsGet(const Cluster& cluster, const std::string& role,
                                     const char* path) {
  const auto address = ParseAddress(cluster.ServesMetrics("scheduler"));
  const auto pem = ReadTlsDir(cluster.certs() + "/" + (role.empty() ? "client" : role));
  auto tls = ParseTlsMaterial(*pem, {});
  EXPECT_TRUE(tls.ok()) << tls.status();
  if (role.empty()) tls->certificate = nullptr;
  const auto page = HttpGet(*address, path, {.tls = &*tls, .servers = {Role::kScheduler}});
  return page.ok() ? std::pair(page->status, page->body) : std::pair(0, std::string());
}

Finished Health(const Cluster& cluster, const std::string& name, const std::string& role) {
  std::vector<std::string> argv = {Program("pregate"),    "health",      "--server",
                                   cluster.Listens(name), "--timeout-s", "10"};
  if (!role.empty()) {
    argv.push_back("--tls-dir");
    argv.push_back(cluster.certs() + "/" + role);
  }
  return RunProgram(argv);
}

// Two workers, so that they meet over TLS as well.
TEST(SecurityTest, AClusterOverTlsSaysTheSameAsOneInPlaintext) {
  Cluster plaintext({.workers = 2}), tls({.workers = 2, .tls = true});
  plaintext.AwaitReady();
  tls.AwaitReady();
  for (int i = 0; i < 6; ++i) {
    const Generation a = Generate(plaintext.stub(), Prompt(i)), b = Generate(tls.stub(), Prompt(i));
    ASSERT_TRUE(a.status.ok()) << a.status.error_message();
    ASSERT_TRUE(b.status.ok()) << b.status.error_message();
    EXPECT_EQ(a.ids, b.ids);
    EXPECT_EQ(a.routes, b.routes);
    EXPECT_EQ(a.text, b.text);
  }
}

TEST(SecurityTest, ThePortsOfAProgramTellRolesApart) {
  Cluster cluster({.tls = true});
  cluster.AwaitReady();
  // Metrics.
  const auto [monitor_status, metrics] = HttpsGet(cluster, "monitor", "/metrics");
  EXPECT_EQ(monitor_status, 200);
  EXPECT_THAT(metrics, HasSubstr("pregate_prompt_tokens_total"));
  EXPECT_EQ(HttpsGet(cluster, "operator", "/metrics").first, 200);
  for (const char* role : {"client", "worker", "router"}) {
    const auto [status, body] = HttpsGet(cluster, role, "/metrics");
    EXPECT_EQ(status, 403) << role;
    EXPECT_THAT(body, HasSubstr(absl::StrCat("role ", role, " may not call GET /metrics")));
    EXPECT_EQ(HttpsGet(cluster, role, "/healthz").first, 200) << role;
  }
  EXPECT_EQ(HttpsGet(cluster, "operator", "/else").first, 403);
  EXPECT_EQ(HttpsGet(cluster, "", "/healthz").first, 0);
  const auto address = *ParseAddress(cluster.ServesMetrics("scheduler"));
  EXPECT_FALSE(HttpGet(address, "/healthz").ok());
  EXPECT_TRUE(WaitUntil(
      [&] { return cluster.Logs().find("peer did not return a certificate") != std::string::npos; },
      absl::Seconds(10)));
  EXPECT_TRUE(IgnoresSigpipe(cluster.scheduler()));
  EXPECT_TRUE(IgnoresSigpipe(cluster.router()));
  EXPECT_TRUE(IgnoresSigpipe(cluster.worker()));
  // Health, by the command that probes use.
  for (const char* name : {"scheduler", "router", "worker0"}) {
    const Finished serving = Health(cluster, name, "operator");
    EXPECT_EQ(serving.exit_code, 0) << name << serving.err;
    EXPECT_EQ(serving.out, "serving\n");
  }
  EXPECT_EQ(Health(cluster, "scheduler", "").exit_code, 1);
  // Text, by the command line.
  const auto generate = [&](const std::string& server, const std::string& role) {
    return RunProgram({Program("pregate"), "generate", "--server", server, "--tls-dir",
                       cluster.certs() + "/" + role, "--prompt", "x", "--max-tokens", "3"});
  };
  EXPECT_EQ(generate(cluster.Listens("scheduler"), "client").exit_code, 0);
  EXPECT_THAT(generate(cluster.Listens("scheduler"), "monitor").err,
              HasSubstr("wrong role monitor"));
  EXPECT_THAT(generate(cluster.Listens("router"), "client").err,
              HasSubstr("wrong role: the peer is router, not scheduler"));
}

// How many programs have taken new files.
int CountChanged(const Cluster& cluster) {
  const std::string logs = cluster.Logs();
  int count = 0;
  for (size_t at = 0; (at = logs.find("tls files changed", at)) != std::string::npos; ++at) ++count;
  return count;
}

// Streams one after the other, from before the renewal until every program has taken the new files;
// the last one ends after that.
TEST(SecurityTest, RenewalUnderStreamsLosesNone) {
  Cluster cluster({.tls = true});
  cluster.AwaitReady();
  constexpr int kClients = 16, kTokens = 400, kPrograms = 3;  // scheduler, router, worker
  std::vector<std::vector<Generation>> all(kClients);
  std::atomic<bool> taken{false};
  std::atomic<int> num_open{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] {
      do {
        bool open = false;
        const auto on_tokens = [&](int, grpc::ClientContext&) {
          if (!std::exchange(open, true)) ++num_open;
        };
        all[i].push_back(Generate(cluster.stub(),
                                  Request(absl::StrCat("Prompt ", i), kTokens, 0, i),
                                  absl::Minutes(3), on_tokens));
        if (open) --num_open;
      } while (!taken && all[i].back().status.ok());
    });
  }
  EXPECT_TRUE(WaitUntil([&] { return num_open == kClients; }, absl::Seconds(30)));
  EXPECT_EQ(CountChanged(cluster), 0);
  const Finished renewed =
      RunProgram({Program("pregate"), "certs", "renew", "--dir", cluster.certs()});
  EXPECT_EQ(renewed.exit_code, 0) << renewed.err;
  EXPECT_TRUE(WaitUntil([&] { return CountChanged(cluster) == kPrograms; }, absl::Seconds(20)))
      << cluster.Logs();
  EXPECT_TRUE(WaitUntil([&] { return num_open > kClients / 2; }, absl::Seconds(20)));
  taken = true;
  for (std::thread& t : clients) t.join();
  for (const auto& streams : all) {
    for (const Generation& g : streams) {
      EXPECT_TRUE(g.status.ok()) << g.status.error_message();
      EXPECT_EQ(g.ids.size(), size_t{kTokens});
    }
  }
  // The metrics port shows the renewed certificate; new connections are good everywhere.
  EXPECT_EQ(HttpsGet(cluster, "monitor", "/metrics").first, 200);
  EXPECT_EQ(Health(cluster, "router", "operator").exit_code, 0);
}

TEST(SecurityTest, ProgramsRefuseWhatWouldBePlaintextByOption) {
  const TempDir dir;
  const struct {
    std::vector<std::string> argv;
    const char* option;
  } kCases[] = {
      {{"pregate-router", "--listen", "0.0.0.0:0"}, "--listen"},
      {{"pregate-router", "--listen", "unix:" + dir / "r", "--metrics-listen", "0.0.0.0:0"},
       "--metrics-listen"},
      {{"pregate-worker", "--listen", "0.0.0.0:0"}, "--listen"},
      {{"pregate-worker", "--collective-host", "10.0.0.1"}, "--collective-insecure"},
      {{"pregate-scheduler", "--workers", "10.0.0.1:7620"}, "--workers"},
      {{"pregate-scheduler", "--router", "router.example:7610"}, "--router"},
      {{"pregate-scheduler", "--tls-dir", dir / "none"}, "tls.crt: No such file"},
  };
  for (const auto& c : kCases) {
    std::vector<std::string> argv = c.argv;
    argv[0] = Program(argv[0]);
    argv.insert(argv.end(), {"--model", TinyModel(3)});
    const Finished run = RunProgram(argv, absl::Seconds(60));
    EXPECT_EQ(run.exit_code, 2) << c.option << run.err;
    EXPECT_THAT(run.err, HasSubstr(c.option));
    EXPECT_THAT(run.err, HasSubstr("--tls-dir"));
  }
}

}  // namespace
}  // namespace pregate::testing
