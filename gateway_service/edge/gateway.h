// The routes of the front door: who may, what is asked, who answers.
//
//   POST /v1/chat/completions, /v1/completions   OpenAI's            POST /v1/messages   Anthropic's
//   GET /v1/models, /v1/models/ID                what is served
//   GET /health, /version                        for anyone
//   GET /, /v1/pregate/cluster                   the page for people, and what it shows of the cluster
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/telemetry/log.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/edge/access_log.h"
#include "gateway_service/edge/gateway_metrics.h"
#include "gateway_service/edge/http_exchange.h"
#include "gateway_service/edge/scheduler_pool.h"
#include "gateway_service/edge/token_file.h"

namespace pregate::gateway {

// Thread-safe.
class Gateway final : public HttpHandler {
 public:
  // All of them outlive it. `tokens` null: nobody needs one. `page` false: there is no page, nor what it
  // shows.
  Gateway(SchedulerPool* pool, TokenFile* tokens, GatewayMetrics* metrics, AccessLog* log,
          bool page)
      : pool_(pool),
        tokens_(tokens),
        metrics_(metrics),
        log_(log),
        page_(page),
        started_(absl::Now()) {}

  std::optional<HttpReply> Refuse(const HttpRequest& head) override;
  void Handle(HttpRequest request, std::shared_ptr<HttpExchange> http) override;
  HttpReply Malformed(int status, const std::string& why) override;
  void CountBytes(size_t received, size_t sent) override { metrics_->CountBytes(received, sent); }
  void CountConnections(int change) override { metrics_->CountConnections(change); }

  // Requests are refused with 503 from now on; /health says so.
  void MarkDraining() { draining_ = true; }
  bool ready() const { return !draining_ && pool_->ready(); }

 private:
  struct Call;  // of one request: what its answers have in common
  HttpReply Models(const Call& call, absl::string_view rest);
  void Cluster(Call call, std::shared_ptr<HttpExchange> http);
  void Generate(Call call, const HttpRequest& request, std::shared_ptr<HttpExchange> http);
  HttpReply Fail(const Call& call, const ApiError& error) const;
  HttpReply Count(const Call& call, HttpReply reply);

  SchedulerPool* const pool_;
  TokenFile* const tokens_;
  GatewayMetrics* const metrics_;
  AccessLog* const log_;
  const bool page_;
  const absl::Time started_;
  std::atomic<bool> draining_{false};
};

}  // namespace pregate::gateway
