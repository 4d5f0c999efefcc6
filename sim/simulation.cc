#include "sim/simulation.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "scheduler_service/core/optimal_cache.h"
#include "scheduler_service/engine/scheduler_engine.h"
#include "sim/agenda.h"
#include "sim/reference_caches.h"
#include "sim/sim_router.h"

namespace pregate::sim {
namespace {

// Every token is a text of no bytes; nothing stops a generation but its length.
class SilentTokenizer final : public Tokenizer {
 public:
  int vocab_size() const override { return RouteChain::kVocab; }
  std::vector<TokenId> Encode(std::string_view) const override { return {}; }
  std::string_view TokenBytes(TokenId) const override { return ""; }
  bool IsSpecial(TokenId) const override { return false; }
  std::optional<TokenId> SpecialId(std::string_view) const override { return std::nullopt; }
  absl::StatusOr<std::vector<TokenId>> ApplyChatTemplate(absl::Span<const ChatMessage>,
                                                         bool) const override {
    return absl::UnimplementedError("a simulated model has no chat template");
  }
  std::vector<TokenId> OwnStopTokens() const override { return {}; }
  std::optional<TokenId> PromptBos() const override { return std::nullopt; }
};

class Recoveries final : public SchedulerObserver {
 public:
  void OnRecovery(const std::string& reason) override { last_ = reason; }
  const std::string& last() const { return last_; }

 private:
  std::string last_;
};

// Submits the trace and keeps the times.
class Clients {
 public:
  Clients(Agenda* agenda, const SimulationOptions& options, const SimRoutes& routes,
          const std::vector<TraceRequest>& trace)
      : agenda_(agenda), options_(options), routes_(routes), trace_(trace) {}

  // Each arrival plans the next one, so that prompts exist only from their arrival on.
  void Start(absl::Time begin) {
    begin_ = begin;
    PlanArrival(0);
  }
  Report Finish() {
    report_.requests = static_cast<int64_t>(trace_.size());
    report_.virtual_s = absl::ToDoubleSeconds(last_token_ - begin_);
    report_.ttft = Summarize(std::move(ttft_));
    report_.itl = Summarize(std::move(itl_));
    report_.normalized = Summarize(std::move(normalized_));
    return report_;
  }

 private:
  class Stopwatch {
   public:
    Stopwatch(Clients* clients, absl::Time arrival) : clients_(clients), last_(arrival) {}
    void Take(const StartInfo&) {}
    void Take(const PromptOut&) {}
    void Take(const ChoiceDone&) {}
    void Take(const TokensOut&) {
      const absl::Time now = clients_->agenda_->now();
      const float gap = static_cast<float>(absl::ToDoubleSeconds(now - last_));
      (has_token_ ? clients_->itl_ : clients_->ttft_).push_back(gap);
      has_token_ = true;
      last_ = now;
      clients_->last_token_ = now;
    }
    void Take(const DoneInfo& info) { clients_->OnDone(info); }

   private:
    Clients* const clients_;
    absl::Time last_;
    bool has_token_ = false;
  };

  void PlanArrival(size_t index) {
    agenda_->At(begin_ + trace_[index].arrival / options_.rate_scale, [this, index] {
      Submit(index);
      if (index + 1 < trace_.size()) PlanArrival(index + 1);
    });
  }

  void Submit(size_t index) {
    const TraceRequest& request = trace_[index];
    const uint64_t seed = Mix(options_.seed, index);
    SubmitEvent event;
    event.link = index + 1;
    event.request.client = event.link;  // a trace does not say whose it is
    event.send = SendTo(std::make_shared<Stopwatch>(this, agenda_->now()));
    event.request.prompt.reserve(request.prompt_tokens);
    for (int32_t i = 0; i < request.prompt_tokens; ++i) {
      event.request.prompt.push_back(routes_.TokenAt(seed, i));
    }
    event.request.seed = seed;
    event.request.max_tokens = request.generated_tokens;
    agenda_->Deliver(std::move(event));
  }

  void OnDone(const DoneInfo& info) {
    report_.preemptions += info.preemptions;
    if (info.status.ok()) {
      ++report_.finished;
      report_.prompt_tokens += info.prompt_tokens;
      report_.generated_tokens += info.generated_tokens;
      normalized_.push_back(
          static_cast<float>(absl::ToDoubleSeconds(info.total) / info.generated_tokens));
    } else {
      ++report_.refused;
    }
    const int64_t done = report_.finished + report_.refused;
    const auto total = static_cast<int64_t>(trace_.size());
    if (options_.progress) options_.progress(done, total);
    if (done == total) agenda_->Deliver(DrainEvent{});
  }

  Agenda* const agenda_;
  const SimulationOptions& options_;
  const SimRoutes& routes_;
  const std::vector<TraceRequest>& trace_;
  absl::Time begin_, last_token_;
  std::vector<float> ttft_, itl_, normalized_;
  Report report_;
};

// What other caches would have loaded, in the order that was executed.
void AddWindow(const SimulationOptions& options, const SimWorker& worker, Report* report) {
  const std::vector<int32_t>& references = worker.references();
  const int32_t units = options.costs.layers * options.costs.experts;
  const int32_t slots = options.worker.expert_slots * options.costs.layers;
  const auto total = static_cast<int64_t>(references.size());
  report->window_references = total;
  report->window_loads = worker.recorded_loads();
  report->window_optimal_loads = total - scheduler::OptimalHits(references, units, slots);
  report->window_lru_loads = total - LruHits(references, units, slots);
  report->window_random_loads = total - RandomHits(references, units, slots, options.seed);
}

}  // namespace

absl::StatusOr<Report> Simulate(const SimulationOptions& options,
                                const std::vector<TraceRequest>& trace) {
  const SimRoutes routes = options.routes
                               ? SimRoutes(options.seed, *options.routes)
                               : SimRoutes({options.seed, options.locality, options.costs.experts});
  Agenda agenda;
  SimRouter router(&agenda, &options.costs, routes);
  SimWorker worker(&agenda, &options.costs, &routes, options.worker);
  Clients clients(&agenda, options, routes, trace);
  Recoveries observer;
  SilentTokenizer tokenizer;
  scheduler::SplitMix64 random(options.seed);
  EngineParts parts;
  parts.clock = agenda.clock();
  parts.inbox = &agenda;
  parts.router = &router;
  parts.workers = {&worker};
  parts.tokenizer = &tokenizer;
  parts.random = &random;
  parts.observer = &observer;
  SchedulerEngine engine(options.engine, parts);

  if (options.worker.expert_slots < options.costs.experts) {
    worker.RecordReferences(static_cast<size_t>(options.optimum_references));
  }
  worker.SayHello();
  router.SayHello();
  clients.Start(agenda.now() + absl::Seconds(1));
  engine.Run();
  if (!observer.last().empty()) {
    return absl::InternalError(absl::StrCat("the engine recovered: ", observer.last()));
  }

  Report report = clients.Finish();
  report.steps = worker.counts();
  report.cache = worker.cache_counts();
  AddWindow(options, worker, &report);
  return report;
}

}  // namespace pregate::sim
