// Threads of a process linked to cuBLAS need stacks beyond its static TLS: the metrics server must
// start and answer there.
#include <cublas_v2.h>
#include <pthread.h>

#include "common/http/http_get.h"
#include "common/http/metrics_server.h"
#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

// What prometheus-cpp's Exposer asks for; shows that cuBLAS is really loaded and in the way.
bool SmallStackThreadStarts() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 100 << 10);
  pthread_t thread;
  const int error = pthread_create(
      &thread, &attributes, [](void*) -> void* { return nullptr; }, nullptr);
  if (error == 0) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  return error == 0;
}

TEST(MetricsServerBesideCublasTest, Serves) {
  ASSERT_GT(cublasGetCudartVersion(), 0);
  EXPECT_FALSE(SmallStackThreadStarts()) << "this cuBLAS is no obstacle: the test proves nothing";
  MetricsRegistry registry("tiny");
  registry.AddCounter("requests_total", "Requests").Increment();
  const auto server =
      MetricsServer::Start({.host = "127.0.0.1", .port = 0}, &registry, [] { return true; });
  ASSERT_TRUE(server.ok()) << server.status();
  const auto response = HttpGet((*server)->bound(), "/metrics");
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 200);
  EXPECT_THAT(response->body, testing::HasSubstr("pregate_requests_total{model=\"tiny\"} 1"));
}

}  // namespace
}  // namespace pregate
