// Processes die and freeze; clients notice nothing but time.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/config/address.h"
#include "common/model/formats/safetensors.h"
#include "common/rpc/health_client.h"
#include "pregate/v1/worker.grpc.pb.h"
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

// The longest wait between two pieces of text of a stream that `act` disturbs at its 8th token. Far
// above what is measured (docs/BENCHMARKS.md) and far below what it was when nothing ended a join:
// 5 s after a death, 16 s after a freeze.
constexpr absl::Duration kStallMax = absl::Seconds(4);

absl::Duration LongestStall(Cluster& cluster, const std::function<void()>& act, Generation* out) {
  absl::Duration longest;
  absl::Time last = absl::Now();
  bool acted = false;
  *out = Generate(cluster.stub(), Greedy(), absl::Seconds(60),
                  [&](int num_tokens, grpc::ClientContext&) {
                    longest = std::max(longest, absl::Now() - std::exchange(last, absl::Now()));
                    if (num_tokens >= 8 && !std::exchange(acted, true)) act();
                  });
  EXPECT_TRUE(acted);
  return longest;
}

void AwaitWorkers(Cluster& cluster, int num_workers) {
  EXPECT_TRUE(WaitUntil(
      [&] {
        double up = 0;
        for (int rank = 0; rank < num_workers; ++rank) {
          up += cluster
                    .Metric(absl::StrCat("pregate_worker_up{model=\"tiny-3\",rank=\"", rank, "\"}"))
                    .value_or(0);
        }
        return up == num_workers && cluster.Ready();
      },
      absl::Seconds(30)))
      << cluster.Logs();
}

TEST(RecoveryTest, ADeadWorkerOfTwoStallsTheOtherForAMomentOnly) {
  Cluster cluster({.workers = 2});
  AwaitWorkers(cluster, 2);
  const Expected expected = Undisturbed(cluster);
  for (int trial = 0; trial < 6; ++trial) {
    const int rank = trial % 2;
    Generation g;
    EXPECT_LE(LongestStall(
                  cluster, [&] { cluster.worker(rank).Kill(); }, &g),
              kStallMax);
    EXPECT_EQ(g.ids, expected.greedy) << g.status.error_message();
    cluster.StartWorker(rank);
    AwaitWorkers(cluster, 2);
  }
}

TEST(RecoveryTest, AFrozenWorkerOfTwoStallsTheOtherForAMomentOnlyAndComesBack) {
  Cluster cluster({.workers = 2});
  AwaitWorkers(cluster, 2);
  const Expected expected = Undisturbed(cluster);
  for (int rank = 0; rank < 2; ++rank) {
    Generation g;
    EXPECT_LE(LongestStall(
                  cluster, [&] { cluster.worker(rank).Signal(SIGSTOP); }, &g),
              kStallMax);
    EXPECT_EQ(g.ids, expected.greedy) << g.status.error_message();
    cluster.worker(rank).Signal(SIGCONT);
    AwaitWorkers(cluster, 2);
    EXPECT_EQ(Undisturbed(cluster).sampled, expected.sampled);
  }
}

// Worker 0's copy of worker 1's expert is damaged, which shows when worker 1 is gone.
TEST(RecoveryTest, AWorkerThatCannotReadWhatItIsToTakeOverEndsAndSaysWhy) {
  Cluster cluster({.workers = 2});
  AwaitWorkers(cluster, 2);
  const Expected expected = Undisturbed(cluster);
  TempDir dir;
  const std::string model = dir / "tiny-3", weights = model + "/model.safetensors";
  const std::string damaged = "model.layers.0.mlp.experts.1.up_proj.weight";
  std::filesystem::copy(TinyModel(3), model);
  const auto file = SafetensorsFile::Open(weights);
  ASSERT_TRUE(file.ok()) << file.status();
  std::string bytes = ReadFile(weights);
  bytes[(*file)->tensors().at(damaged).offset] ^= 1;
  std::filesystem::remove(weights);  // the mapped one stays as it was
  std::ofstream(weights, std::ios::binary) << bytes;

  cluster.worker(0).Kill();
  Process broken({Program("pregate-worker"), "--model", model, "--threads", "1", "--dtype", "f32",
                  "--rank", "0", "--world-size", "2", "--listen", cluster.Listens("worker0"),
                  "--metrics-listen", "127.0.0.1:0"},
                 dir / "broken.log");
  AwaitWorkers(cluster, 2);
  cluster.worker(1).Kill();
  EXPECT_EQ(broken.Wait(absl::Seconds(30)), 1) << broken.Log() << cluster.Logs();
  EXPECT_NE(broken.Log().find(weights + ": tensor " + damaged), std::string::npos) << broken.Log();
  cluster.StartWorker(1);
  cluster.AwaitReady();
  EXPECT_EQ(Undisturbed(cluster).greedy, expected.greedy);
}

int NumVoid(const std::string& log) {
  int n = 0;
  for (size_t at = log.find("is void"); at != std::string::npos; at = log.find("is void", at + 1)) {
    ++n;
  }
  return n;
}

TEST(RecoveryTest, ACellServesSoonAfterItsLastWorkerWhateverTheOrder) {
  for (int seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    Cluster cluster({.workers = 2});
    for (int rank : {0, 1}) cluster.worker(rank).Kill();
    ASSERT_TRUE(WaitUntil([&] { return !cluster.Ready(); }, absl::Seconds(5)));
    const int before = NumVoid(cluster.Logs());
    const int first = seed % 2;
    const bool apart = std::uniform_int_distribution<int>(0, 1)(random) == 1;
    cluster.StartWorker(first);
    // Apart: the first serves alone when the second comes.
    if (apart) cluster.AwaitReady();
    cluster.StartWorker(1 - first);
    AwaitWorkers(cluster, 2);
    const Generation g = Generate(cluster.stub(), Greedy());
    EXPECT_TRUE(g.status.ok()) << g.status.error_message();
    EXPECT_LE(NumVoid(cluster.Logs()) - before, 1) << cluster.Logs();
  }
}

// Two schedulers on the same workers, which are the other cluster's.
TEST(RecoveryTest, ASecondSchedulerStandsByUntilTheFirstIsGoneOrFrozen) {
  Cluster cluster({.workers = 2, .worker_flags = {"--scheduler-lease-s", "1"}});
  AwaitWorkers(cluster, 2);
  const Expected expected = Undisturbed(cluster);
  const std::string first = cluster.Listens("worker0"), second = cluster.Listens("worker1");
  TempDir dir;
  const std::string listen = "unix:" + (dir / "standby");
  Process standby({Program("pregate-scheduler"), "--model", TinyModel(3), "--workers",
                   first + "," + second, "--router", cluster.Listens("router"), "--listen", listen,
                   "--metrics-listen", "127.0.0.1:0"},
                  dir / "standby.log");
  const auto address = ParseAddress(listen);
  ASSERT_TRUE(address.ok());
  const auto channel = grpc::CreateChannel(address->ToString(), grpc::InsecureChannelCredentials());
  const auto standby_ready = [&] {
    const auto serving = IsServing(channel, absl::Seconds(1));
    return serving.ok() && *serving;
  };
  ASSERT_TRUE(
      WaitUntil([&] { return standby.Log().find("holds this worker") != std::string::npos; },
                absl::Seconds(30)));
  EXPECT_EQ(Undisturbed(cluster).greedy, expected.greedy) << "the first one goes on";
  EXPECT_FALSE(standby_ready());

  cluster.scheduler().Signal(SIGSTOP);
  ASSERT_TRUE(WaitUntil(standby_ready, absl::Seconds(30))) << standby.Log();
  cluster.scheduler().Signal(SIGCONT);
  EXPECT_TRUE(
      WaitUntil([&] { return cluster.Logs().find("has taken this worker") != std::string::npos; },
                absl::Seconds(30)));
  EXPECT_TRUE(standby_ready());
  EXPECT_FALSE(cluster.Ready()) << "it is fenced";
  const Generation refused = Generate(cluster.stub(), Greedy(), absl::Seconds(20));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE)
      << refused.status.error_message();

  standby.Kill();
  cluster.AwaitReady();
  EXPECT_EQ(Undisturbed(cluster).greedy, expected.greedy);
}

// What a stranger on a plaintext port may say.
TEST(RecoveryTest, AStrangersFormsDisableNoWorker) {
  Cluster cluster({});
  cluster.AwaitReady();
  const auto address = ParseAddress(cluster.Listens("worker0"));
  ASSERT_TRUE(address.ok());
  const auto stub = v1::ExpertWorker::NewStub(
      grpc::CreateChannel(address->ToString(), grpc::InsecureChannelCredentials()));
  const auto form = [&](uint64_t epoch) {
    grpc::ClientContext context;
    const auto stream = stub->Attach(&context);
    v1::AttachRequest request;
    request.mutable_form()->set_epoch(epoch);
    request.mutable_form()->set_scheduler_id("stranger");
    request.mutable_form()->add_members(0);
    for (int e = 0; e < 3; ++e) request.mutable_form()->add_placement()->add_ranks(0);
    stream->Write(request);
    v1::AttachResponse response;
    while (stream->Read(&response) && !response.has_formed()) {
    }
    context.TryCancel();
    return response.formed().status();
  };
  for (const uint64_t epoch : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40}) {
    EXPECT_EQ(form(epoch).code(), static_cast<int>(absl::StatusCode::kOutOfRange));
  }
  const auto held = form(1000);
  EXPECT_EQ(held.code(), static_cast<int>(absl::StatusCode::kPermissionDenied));
  EXPECT_NE(held.message().find("holds this worker"), std::string::npos) << held.message();
  EXPECT_TRUE(Generate(cluster.stub(), Greedy()).status.ok());
  EXPECT_EQ(cluster.Metric("pregate_recoveries_total{model=\"tiny-3\"}").value_or(0), 0);

  // While nobody holds it, again and again as far ahead as it goes.
  cluster.scheduler().Kill();
  const absl::Time end = absl::Now() + absl::Seconds(5);
  auto first = form(uint64_t{1} << 29);
  while (first.code() == static_cast<int>(absl::StatusCode::kPermissionDenied) &&
         absl::Now() < end) {  // the worker has not seen it go
    absl::SleepFor(absl::Milliseconds(1));
    first = form(uint64_t{1} << 29);
  }
  EXPECT_EQ(first.code(), 0) << first.message();
  for (uint64_t i = 2; i <= 20; ++i) EXPECT_EQ(form(i << 29).code(), 0) << i;
  cluster.StartScheduler();
  cluster.AwaitReady();
  EXPECT_TRUE(Generate(cluster.stub(), Greedy()).status.ok());
}

}  // namespace
}  // namespace pregate::testing
