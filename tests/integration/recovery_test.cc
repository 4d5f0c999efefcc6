// Processes die and freeze; clients notice nothing but time.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <random>
#include <thread>

#include "tests/integration/cluster.h"

namespace pregate::testing {
namespace {

constexpr int kTokens = 48;

v1::GenerateRequest Greedy() { return Request("The quick brown fox jumps over ", kTokens); }
v1::GenerateRequest Sampled() { return Request("The quick brown fox jumps over ", kTokens, 1, 99); }

// Both requests' ids on a cluster that nothing happens to.
struct Expected {
  std::vector<int32_t> greedy, sampled;
};
Expected Undisturbed(Cluster& cluster) {
  return {Generate(cluster.stub(), Greedy()).ids, Generate(cluster.stub(), Sampled()).ids};
}

void KillsTheRouterAtARandomToken(const std::string& decode_routing) {
  Cluster cluster({.scheduler_flags = {"--decode-routing", decode_routing}});
  cluster.AwaitReady();
  const Expected expected = Undisturbed(cluster);
  ASSERT_EQ(expected.greedy.size(), size_t{kTokens});
  for (int seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed << " routing " << decode_routing);
    std::mt19937 random(seed);
    const int at = std::uniform_int_distribution<int>(1, kTokens - 1)(random);
    bool killed = false;
    const auto kill_at = [&](int num_tokens, grpc::ClientContext&) {
      if (killed || num_tokens < at) return;
      killed = true;
      cluster.router().Kill();
      cluster.StartRouter();
    };
    const bool sampled = seed % 2;
    const Generation g =
        Generate(cluster.stub(), sampled ? Sampled() : Greedy(), absl::Seconds(60), kill_at);
    ASSERT_TRUE(g.status.ok()) << g.status.error_message();
    EXPECT_TRUE(killed);
    EXPECT_EQ(g.ids, sampled ? expected.sampled : expected.greedy) << "killed at token " << at;
  }
}

TEST(RecoveryTest, KillingTheRouterChangesNoTextWhenTheReplicaRoutes) {
  KillsTheRouterAtARandomToken("replica");
}

TEST(RecoveryTest, KillingTheRouterChangesNoTextWhenTheServiceRoutes) {
  KillsTheRouterAtARandomToken("service");
}

struct KillCase {
  int workers;
  const char* run_ahead;
};

// Eight streams; when the first has got some tokens, a random worker dies and comes back.
void KillsAWorkerUnderLoad(const KillCase& c) {
  Cluster cluster({.workers = c.workers, .scheduler_flags = {"--run-ahead", c.run_ahead}});
  cluster.AwaitReady();
  const Expected expected = Undisturbed(cluster);
  for (int seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(::testing::Message()
                 << "seed " << seed << " run-ahead " << c.run_ahead << " workers " << c.workers);
    std::mt19937 random(seed);
    const int at = std::uniform_int_distribution<int>(1, kTokens - 1)(random);
    const int rank = seed % c.workers;
    std::vector<Generation> all(8);
    std::vector<std::thread> clients;
    bool killed = false;
    for (int i = 0; i < 8; ++i) {
      const auto kill_at = [&, i](int num_tokens, grpc::ClientContext&) {
        if (i != 0 || killed || num_tokens < at) return;
        killed = true;
        cluster.worker(rank).Kill();
        cluster.StartWorker(rank);
      };
      clients.emplace_back([&, i, kill_at] {
        all[i] = Generate(cluster.stub(), i % 2 ? Sampled() : Greedy(), absl::Seconds(60), kill_at);
      });
    }
    for (std::thread& t : clients) t.join();
    EXPECT_TRUE(killed);
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(all[i].status.ok()) << i << ": " << all[i].status.error_message();
      EXPECT_EQ(all[i].ids, i % 2 ? expected.sampled : expected.greedy) << "stream " << i;
    }
  }
  EXPECT_GE(cluster.Metric("pregate_recoveries_total{model=\"tiny-3\"}").value_or(0), 4);
}

TEST(RecoveryTest, KillingTheWorkerUnderLoadChangesNoText) {
  for (const char* run_ahead : {"on", "off"}) KillsAWorkerUnderLoad({1, run_ahead});
}

TEST(RecoveryTest, KillingOneOfTwoWorkersUnderLoadChangesNoText) {
  for (const char* run_ahead : {"on", "off"}) KillsAWorkerUnderLoad({2, run_ahead});
}

// Time until the cluster says it is not ready.
absl::Duration TimeToUnready(Cluster& cluster) {
  const absl::Time start = absl::Now();
  EXPECT_TRUE(WaitUntil([&] { return !cluster.Ready(); }, absl::Seconds(5)));
  return absl::Now() - start;
}

TEST(RecoveryTest, AFrozenWorkerTurnsTheClusterUnreadyWithinASecond) {
  Cluster cluster({});
  cluster.AwaitReady();
  cluster.worker().Signal(SIGSTOP);
  EXPECT_LE(TimeToUnready(cluster), absl::Seconds(1));
  cluster.worker().Signal(SIGCONT);
  cluster.AwaitReady();
  EXPECT_TRUE(Generate(cluster.stub(), Greedy()).status.ok());
}

TEST(RecoveryTest, AFrozenSchedulerDoesNotAnswerAsReady) {
  Cluster cluster({});
  cluster.AwaitReady();
  cluster.scheduler().Signal(SIGSTOP);
  // No answer within a probe's second; the first probe may still meet a process that is not stopped
  // yet.
  EXPECT_TRUE(WaitUntil([&] { return !cluster.Ready(); }, absl::Seconds(5)));
  cluster.scheduler().Signal(SIGCONT);
  cluster.AwaitReady();
}

TEST(RecoveryTest, ALostRouterTurnsTheClusterUnreadyAndBack) {
  Cluster cluster({});
  cluster.AwaitReady();
  cluster.router().Kill();
  EXPECT_LE(TimeToUnready(cluster), absl::Seconds(1));
  cluster.StartRouter();
  cluster.AwaitReady();
  EXPECT_TRUE(Generate(cluster.stub(), Greedy()).status.ok());
}

}  // namespace
}  // namespace pregate::testing
