#include "common/telemetry/metrics_server.h"

#include <httplib.h>

#include <atomic>

#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

class MetricsServerTest : public ::testing::Test {
 protected:
  std::unique_ptr<MetricsServer> Start(int port = 0) {
    auto server = MetricsServer::Start({.host = "127.0.0.1", .port = port}, &registry_,
                                       [this] { return ready_.load(); });
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
  httplib::Result Get(const MetricsServer& server, const char* path) {
    return httplib::Client("127.0.0.1", server.bound().port).Get(path);
  }

  MetricsRegistry registry_{"tiny"};
  std::atomic<bool> ready_{true};
};

TEST_F(MetricsServerTest, ServesTheTextFormatWithPrefixAndModel) {
  registry_.AddCounter("requests_total", "Requests", {{"finish_reason", "length"}}).Increment(3);
  registry_.AddHistogram("inter_token_latency_seconds", "Gaps", LatencyBuckets()).Observe(0.0125);
  const auto server = Start();
  EXPECT_GT(server->bound().port, 0);
  const auto response = Get(*server, "/metrics");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 200);
  EXPECT_THAT(response->get_header_value("Content-Type"), HasSubstr("text/plain; version=0.0.4"));
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

TEST_F(MetricsServerTest, AnswersMoreClientsThanItHasThreads) {
  const auto server = Start();
  std::atomic<int> num_ok{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 40; ++i) {
    clients.emplace_back([&] {
      const auto response = Get(*server, "/healthz");
      num_ok += response && response->status == 200;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_ok, 40);
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
