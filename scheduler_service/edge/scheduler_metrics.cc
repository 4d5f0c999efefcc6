#include "scheduler_service/edge/scheduler_metrics.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr int kStepTokensBucketMax = 8192;

double Seconds(absl::Duration d) { return absl::ToDoubleSeconds(d); }

constexpr FinishReason kFinishReasons[] = {FinishReason::kLength,     FinishReason::kStopToken,
                                           FinishReason::kStopString, FinishReason::kCancelled,
                                           FinishReason::kDeadline,   FinishReason::kError};
constexpr const char* kFailureReasons[] = {"refused", "unavailable", "invalid"};

// Sets the failures that are an overload's, an outage's or the client's own apart from "error".
std::string FailureLabel(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return "refused";
    case absl::StatusCode::kUnavailable:
      return "unavailable";
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
      return "invalid";
    case absl::StatusCode::kCancelled:
      return FinishReasonName(FinishReason::kCancelled);
    case absl::StatusCode::kDeadlineExceeded:
      return FinishReasonName(FinishReason::kDeadline);
    default:
      return FinishReasonName(FinishReason::kError);
  }
}

}  // namespace

SchedulerMetrics::SchedulerMetrics(MetricsRegistry* registry, const Log* log, int num_experts)
    : registry_(registry),
      log_(log),
      ttft_(registry->AddHistogram("time_to_first_token_seconds",
                                   "From acceptance to the first token", LatencyBuckets())),
      itl_(registry->AddHistogram("inter_token_latency_seconds",
                                  "Gap between two tokens of one stream", LatencyBuckets())),
      e2e_(registry->AddHistogram("e2e_request_latency_seconds",
                                  "From acceptance to the end of finished requests",
                                  LatencyBuckets())),
      queue_time_(registry->AddHistogram("request_queue_time_seconds",
                                         "From the first routes to the first row in a step",
                                         LatencyBuckets())),
      route_time_(registry->AddHistogram("route_seconds",
                                         "From asking for a prompt's routes to having them all",
                                         ShortLatencyBuckets())),
      step_duration_(registry->AddHistogram("step_duration_seconds",
                                            "A step at its slowest worker: plan taken to result "
                                            "made",
                                            LatencyBuckets())),
      step_round_trip_(
          registry->AddHistogram("step_round_trip_seconds",
                                 "Plan sent to the last result handled; contains the wait behind "
                                 "a step planned before",
                                 LatencyBuckets())),
      step_tokens_(registry->AddHistogram("step_tokens", "Tokens in a step",
                                          PowerOfTwoBuckets(kStepTokensBucketMax))),
      step_unique_experts_(registry->AddHistogram("step_unique_experts",
                                                  "Experts that a step ran, over all workers",
                                                  CountBuckets(std::max(num_experts, 1)))),
      running_(registry->AddGauge("num_requests_running", "Requests in the batch")),
      waiting_(registry->AddGauge("num_requests_waiting",
                                  "Requests that are routed, queued or preempted")),
      kv_usage_(registry->AddGauge("kv_cache_usage_ratio", "KV blocks in use, of all")),
      kv_cached_(
          registry->AddGauge("prefix_cache_usage_ratio",
                             "KV blocks that the prefix cache knows, in use or not, of all")),
      routed_ahead_(registry->AddGauge(
          "routed_ahead_tokens",
          "Tokens of running requests whose expert is known and that no step has taken yet")),
      reuse_(registry->AddGauge("expert_reuse_ratio",
                                "Of the experts that steps named lately, counted once a step: the "
                                "share that took no load; 1 where all fit")),
      optimal_reuse_(registry->AddGauge(
          "expert_optimal_reuse_ratio",
          "The same of a cache that had known these steps before (Belady's optimum)")),
      router_up_(num_experts == 0
                     ? nullptr
                     : &registry->AddGauge("router_up", "1 while the router is connected")),
      prompt_tokens_(
          registry->AddCounter("prompt_tokens_total", "Prompt tokens of started requests")),
      generation_tokens_(
          registry->AddCounter("generation_tokens_total", "Tokens streamed to clients")),
      draft_tokens_(registry->AddCounter(
          "draft_tokens_total", "Tokens that were guessed and checked, of requests that ended")),
      accepted_tokens_(registry->AddCounter("accepted_draft_tokens_total",
                                            "Of the guessed tokens: those that were right")),
      prefix_queries_(registry->AddCounter(
          "prefix_cache_queries_total",
          "Tokens of sequences that entered the batch: what the prefix cache was asked for")),
      prefix_hits_(registry->AddCounter(
          "prefix_cache_hits_total", "Of them: tokens whose KV was there and not computed again")),
      prefix_evictions_(registry->AddCounter("prefix_cache_evictions_total",
                                             "KV blocks that left the prefix cache for others")),
      preemptions_(registry->AddCounter("preemptions_total",
                                        "Times that sequences lost their KV to others")),
      recoveries_(registry->AddCounter("recoveries_total", "Epochs that became void")) {
  std::vector<std::string> reasons(std::begin(kFailureReasons), std::end(kFailureReasons));
  for (const FinishReason reason : kFinishReasons) reasons.push_back(FinishReasonName(reason));
  for (const std::string& reason : reasons) {
    requests_[reason] = &registry->AddCounter(
        "requests_total", "Requests that ended, by why: refused is an overload's answer",
        {{"finish_reason", reason}});
  }
  for (int e = 0; e < num_experts; ++e) {
    expert_tokens_.push_back(&registry->AddCounter("expert_tokens_total",
                                                   "Prompt and generated tokens by their expert",
                                                   {{"expert", absl::StrCat(e)}}));
  }
}

WorkerFacts SchedulerMetrics::facts() const {
  absl::MutexLock lock(&mutex_);
  return facts_;
}

void SchedulerMetrics::CountRequest(const std::string& finish_reason) {
  requests_.at(finish_reason)->Increment();
}

void SchedulerMetrics::CountRefusal(const absl::Status& status) {
  CountRequest(FailureLabel(status));
}

void SchedulerMetrics::CountRoutes(const std::vector<ExpertId>& routes) {
  for (const ExpertId route : routes) {
    if (route >= 0 && route < static_cast<int>(expert_tokens_.size())) {
      expert_tokens_[route]->Increment();
    }
  }
}

void SchedulerMetrics::CountPrompt(const StartInfo& info) {
  prompt_tokens_.Increment(info.prompt_tokens);
  CountRoutes(info.prompt_routes);
}

void SchedulerMetrics::CountTokens(const TokensOut& out) {
  generation_tokens_.Increment(static_cast<double>(out.tokens.size()));
  CountRoutes(out.routes);
}

void SchedulerMetrics::OnFormed(Epoch epoch, const WorkerFacts& cell) {
  log_->Info("formed", {{"epoch", epoch},
                        {"device", cell.device},
                        {"numerics_id", cell.numerics_id},
                        {"kv_blocks", cell.kv_blocks},
                        {"seq_slots", cell.seq_slots},
                        {"step_tokens", cell.step_tokens},
                        {"context_tokens", cell.context_tokens}});
  absl::MutexLock lock(&mutex_);
  facts_ = cell;
}

void SchedulerMetrics::OnRecovery(const std::string& reason) {
  recoveries_.Increment();
  log_->Warn("recovering", {{"reason", reason}});
}

void SchedulerMetrics::OnStep(const StepReport& report) {
  step_duration_.Observe(Seconds(report.duration));
  step_round_trip_.Observe(Seconds(report.round_trip));
  step_tokens_.Observe(report.num_tokens);
  if (!expert_tokens_.empty()) step_unique_experts_.Observe(report.unique_experts);
}

void SchedulerMetrics::OnPreempted(int64_t num_sequences) {
  preemptions_.Increment(static_cast<double>(num_sequences));
}

void SchedulerMetrics::OnPrefix(int64_t num_tokens, int64_t num_found) {
  prefix_queries_.Increment(static_cast<double>(num_tokens));
  prefix_hits_.Increment(static_cast<double>(num_found));
}

void SchedulerMetrics::OnRouted(absl::Duration duration, int32_t num_tokens) {
  route_time_.Observe(Seconds(duration));
}

void SchedulerMetrics::OnFirstToken(absl::Duration since_accept) {
  ttft_.Observe(Seconds(since_accept));
}

void SchedulerMetrics::OnNextTokens(absl::Duration since_last, int64_t num_tokens) {
  for (int64_t i = 0; i < num_tokens; ++i) itl_.Observe(Seconds(since_last) / num_tokens);
}

void SchedulerMetrics::OnDone(const DoneInfo& info) {
  CountRequest(info.status.ok() ? FinishReasonName(info.reason) : FailureLabel(info.status));
  draft_tokens_.Increment(info.draft_tokens);
  accepted_tokens_.Increment(info.accepted_tokens);
  if (!info.status.ok()) return;
  queue_time_.Observe(Seconds(info.queue_time));
  e2e_.Observe(Seconds(info.total));
}

void SchedulerMetrics::OnGauges(const EngineGauges& gauges) {
  running_.Set(gauges.requests_running);
  waiting_.Set(gauges.requests_waiting);
  for (size_t rank = workers_up_.size(); rank < gauges.workers_up.size(); ++rank) {
    workers_up_.push_back(&registry_->AddGauge("worker_up", "1 while the worker is attached",
                                               {{"rank", absl::StrCat(rank)}}));
  }
  for (size_t rank = 0; rank < gauges.workers_up.size(); ++rank) {
    workers_up_[rank]->Set(gauges.workers_up[rank] ? 1 : 0);
  }
  routed_ahead_.Set(static_cast<double>(gauges.routed_ahead));
  reuse_.Set(gauges.reuse.ratio);
  optimal_reuse_.Set(gauges.reuse.optimal_ratio);
  if (router_up_ != nullptr) router_up_->Set(gauges.router_up ? 1 : 0);
  const auto of_all = [&](int64_t blocks) {
    return gauges.kv_blocks == 0 ? 0 : static_cast<double>(blocks) / gauges.kv_blocks;
  };
  kv_usage_.Set(of_all(gauges.kv_blocks_used));
  kv_cached_.Set(of_all(gauges.kv_blocks_cached));
  prefix_evictions_.Increment(static_cast<double>(
      gauges.kv_evictions - std::exchange(evictions_counted_, gauges.kv_evictions)));
}

}  // namespace pregate
