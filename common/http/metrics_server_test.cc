#include "common/http/metrics_server.h"

#include <atomic>
#include <thread>

#include "common/base/limits.h"
#include "common/http/http_get.h"
#include "common/http/testing/raw_socket.h"
#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MetricsServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<MetricsServer> Start(int port = 0) {
    auto server = MetricsServer::Start({.host = "127.0.0.1", .port = port}, &registry_,
                                       [this] { return ready_.load(); });
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
  absl::StatusOr<HttpPage> Get(const MetricsServer& server, const char* path) {
    return HttpGet(server.bound(), path);
  }

  MetricsRegistry registry_{"tiny"};
  std::atomic<bool> ready_{true};
};

TEST_F(MetricsServerTest, ServesTheTextFormatWithPrefixAndModel) {
  registry_.AddCounter("requests_total", "Requests", {{"finish_reason", "length"}}).Increment(3);
  registry_.AddHistogram("inter_token_latency_seconds", "Gaps", LatencyBuckets()).Observe(0.0125);
  const auto server = Start();
  EXPECT_GT(server->bound().port, 0);
  testing::RawSocket raw(server->bound());
  raw.Write("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(raw.ReadUntil("\r\n\r\n"), HasSubstr("Content-Type: text/plain; version=0.0.4"));
  const auto response = Get(*server, "/metrics");
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_THAT(response->body, HasSubstr("# TYPE pregate_requests_total counter"));
  EXPECT_THAT(response->body,
              HasSubstr("pregate_requests_total{model=\"tiny\",finish_reason=\"length\"} 3"));
  EXPECT_THAT(response->body, HasSubstr("le=\"0.009\"} 0\n"));
  EXPECT_THAT(response->body, HasSubstr("le=\"+Inf\"} 1\n"));
  EXPECT_THAT(response->body, HasSubstr("le=\"0.012\"} 0\n"));
  EXPECT_THAT(response->body, HasSubstr("le=\"0.013\"} 1\n"));
}

TEST_F(MetricsServerTest, HealthFollowsReadiness) {
  const auto server = Start();
  EXPECT_EQ(Get(*server, "/healthz")->status, 200);
  ready_ = false;
  EXPECT_EQ(Get(*server, "/healthz")->status, 503);
  EXPECT_EQ(Get(*server, "/else")->status, 404);
}

TEST_F(MetricsServerTest, ReportsATakenPort) {
  const auto first = Start();
  const auto second = MetricsServer::Start({.host = "127.0.0.1", .port = first->bound().port},
                                           &registry_, [] { return true; });
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot be bound"));
}

TEST_F(MetricsServerTest, AnswersManyClientsAtOnce) {
  const auto server = Start();
  std::atomic<int> num_ok{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 40; ++i) {
    clients.emplace_back([&] {
      const auto response = Get(*server, "/healthz");
      num_ok += response.ok() && response->status == 200;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_ok, 40);
}

TEST_F(MetricsServerTest, AConnectionIsKeptForMoreRequests) {
  const auto server = Start();
  testing::RawSocket raw(server->bound());
  for (int i = 0; i < 3; ++i) {
    raw.Write("GET /healthz?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(raw.ReadUntil("ready\n"), HasSubstr("200 OK"));
  }
  raw.Write("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(raw.ReadAll(), HasSubstr("200 OK"));
}

TEST_F(MetricsServerTest, WhatIsNoGoodRequestIsToldSoOrCut) {
  const auto server = Start();
  const auto answer = [&](const std::string& text) {
    testing::RawSocket raw(server->bound());
    raw.Write(text);
    return raw.ReadAll();
  };
  EXPECT_THAT(answer("nonsense\r\n\r\n"), HasSubstr("400 Bad Request"));
  EXPECT_THAT(answer("POST /metrics HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"),
              HasSubstr("405 Method Not Allowed"));
  const std::string too_long(2 * kMetricsHeaderBytesMax, 'x');
  EXPECT_THAT(answer("GET /" + too_long + " HTTP/1.0\r\n\r\n"), Not(HasSubstr("200")));
  EXPECT_EQ(Get(*server, "/healthz")->status, 200);
}

// More than may be open: the oldest make room, and nobody waits for their time to be over.
TEST_F(MetricsServerTest, SilentConnectionsHoldNobodyUp) {
  const auto server = Start();
  std::vector<std::unique_ptr<testing::RawSocket>> silent;
  for (int i = 0; i < 3 * kMetricsConnectionsMax; ++i) {
    silent.push_back(std::make_unique<testing::RawSocket>(server->bound()));
    if (i % 16 != 0) continue;
    const auto response = HttpGet(server->bound(), "/healthz", {.timeout = absl::Seconds(1)});
    ASSERT_TRUE(response.ok()) << i << ": " << response.status();
  }
  EXPECT_EQ(silent[0]->ReadAll(), "");  // cut
}

TEST(BucketsTest, LatencyHasMillisecondStepsAndReachesHundredSeconds) {
  const std::vector<double> buckets = LatencyBuckets();
  for (int ms = 1; ms <= 30; ++ms) EXPECT_DOUBLE_EQ(buckets[ms - 1], ms / 1000.0);
  EXPECT_TRUE(std::is_sorted(buckets.begin(), buckets.end()));
  EXPECT_EQ(buckets.back(), 100);
  const std::vector<double> counts = CountBuckets(5);
  EXPECT_EQ(counts, (std::vector<double>{1, 2, 3, 4, 5}));
  EXPECT_EQ(PowerOfTwoBuckets(5), (std::vector<double>{1, 2, 4, 8}));
}

TEST(MetricsRegistryTest, OneNameAndLabelSetIsOneMetric) {
  MetricsRegistry registry("m");
  registry.AddCounter("a_total", "A", {{"expert", "0"}}).Increment();
  registry.AddCounter("a_total", "A", {{"expert", "0"}}).Increment();
  registry.AddCounter("a_total", "A", {{"expert", "1"}}).Increment();
  EXPECT_THAT(registry.Serialize(), HasSubstr("pregate_a_total{model=\"m\",expert=\"0\"} 2"));
}

}  // namespace
}  // namespace pregate
