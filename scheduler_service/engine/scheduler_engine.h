// The scheduler's loop: one thread, one place to wait, everything else a message.
//
//   clients ──Submit, Detach──▶ │       │ ──Form, Plan──▶ workers
//   workers ──Hello, Result───▶ │ inbox │ ──tokens──────▶ router
//   router ───routes──────────▶ │       │ ──tokens──────▶ clients
//
// A worker may disappear at any time: the epoch is then void, the batch empty, and every sequence
// is planned anew from its committed tokens and recorded routes (docs/CONTRACTS.md, "Recovery").
// There is no other form of recovery.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/model/tokenizer/tokenizer.h"
#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/drafting.h"
#include "scheduler_service/core/planner.h"
#include "scheduler_service/core/random_source.h"
#include "scheduler_service/core/residency.h"
#include "scheduler_service/core/route_habits.h"
#include "scheduler_service/engine/cluster_board.h"
#include "scheduler_service/engine/health.h"
#include "scheduler_service/engine/links.h"
#include "scheduler_service/engine/options.h"
#include "scheduler_service/engine/request_handler.h"
#include "scheduler_service/engine/route_client.h"
#include "scheduler_service/engine/scheduler_observer.h"
#include "scheduler_service/engine/step_ledger.h"
#include "scheduler_service/engine/worker_group.h"

namespace pregate {

// All outlive the engine. `router` may be null where only dense models are served.
// Who carries the answers of one step to clients may send them together. Called from the engine's
// thread, Begin before them.
class AnswerBatch {
 public:
  virtual ~AnswerBatch() = default;
  virtual void Begin(size_t num_answers) = 0;
  virtual void End() = 0;
};

struct EngineParts {
  Clock* clock = nullptr;
  Inbox* inbox = nullptr;
  RouterLink* router = nullptr;
  std::vector<WorkerLink*> workers;  // by rank, at least one
  const Tokenizer* tokenizer = nullptr;
  scheduler::RandomSource* random = nullptr;  // draws the seeds that requests leave out
  SchedulerObserver* observer = nullptr;
  const scheduler::Planner* planner = nullptr;  // null: what the options say
  AnswerBatch* answers = nullptr;               // null: nobody does
};

// Run on one thread; only health() and board() may be read from others.
class SchedulerEngine {
 public:
  SchedulerEngine(EngineOptions options, EngineParts parts);

  // Returns after a DrainEvent, when every admitted request is done.
  void Run();

  const EngineHealth& health() const { return health_; }
  const ClusterBoard& board() const { return board_; }
  // For tests, between runs.
  const scheduler::Batch& batch() const { return batch_; }

 private:
  bool Drained() const { return draining_ && requests_.table().empty(); }
  absl::Time NextWake() const;
  void HandleTimers();
  void EndAll(const absl::Status& status);
  void PlanAndSend();
  void Publish();
  void ShowWorkers();
  void Show(scheduler::StepAnswer& answer);

  void Handle(SubmitEvent& event);
  void Handle(DetachEvent& event);
  void Handle(WorkerEvent& event);
  void Handle(WorkerDown& event);
  void Handle(RouterEvent& event);
  void Handle(RouterDown& event);
  void Handle(DrainEvent& event);

  void OnMessage(int32_t rank, Hello& hello);
  void OnMessage(int32_t rank, Formed& formed);
  void OnMessage(int32_t rank, Progress& progress);
  void OnMessage(int32_t rank, StepResult& result);
  void OnMessage(int32_t rank, UnitEvents& events);
  void OnMessage(int32_t rank, Alive& alive) {}  // to have heard of it is all
  void OnRoutes(RouteResponse& response);
  void UpdateRouter();

  void BeginEpoch();
  void ForgetLostKv(int32_t rank);
  // The next formation waits at least for `wait`.
  void RecoverIf(const scheduler::WorkerGroup::VoidReason& reason,
                 absl::Duration wait = absl::ZeroDuration());
  void CommitAnswer(int32_t rank, scheduler::StepAnswer& answer);
  void CommitScores(RowScores& scores);
  void CommitSamples(absl::Span<Sample> samples);
  void MirrorUnits(int32_t rank, const std::vector<UnitEvent>& events);
  void Send(scheduler::CommittedStep step);

  void EnqueueIfNew(scheduler::LiveRequest* request);
  void OnRouted(scheduler::LiveRequest* request);
  void Finish(scheduler::LiveRequest* request,
              FinishReason reason);  // the generation has ended by itself
  void End(scheduler::LiveRequest* request, absl::Status status,
           FinishReason reason = FinishReason::kError);

  bool dense() const { return group_.facts() && group_.facts()->num_experts == 0; }
  bool ServiceRoutesDecode() const {
    return options_.decode_routing == DecodeRouting::kService && !dense();
  }
  int PipelineDepth() const;
  bool MayDraft() const;
  int32_t StepTokens() const;

  const EngineOptions options_;
  const EngineParts parts_;
  const std::unique_ptr<const scheduler::Planner> own_planner_;
  const scheduler::Planner* const planner_;
  scheduler::RequestHandler requests_;
  scheduler::RouteClient routes_;
  scheduler::WorkerGroup group_;
  scheduler::StepLedger ledger_;
  scheduler::Batch batch_;
  // Whose KV the batch remembers of a rank: of the process, from this epoch on.
  struct KvContents {
    uint64_t incarnation = 0;
    Epoch since = 0;
  };
  std::vector<KvContents> kv_of_;  // by rank
  scheduler::Residency residency_;
  scheduler::RouteHabits habits_;
  scheduler::Drafting drafting_;
  EngineHealth health_;
  EngineGauges gauges_;
  ClusterBoard board_;
  bool workers_changed_ = true;  // since they were put on the board

  absl::Time now_ = absl::InfinitePast();  // of this turn of the loop
  StepId next_step_ = 1;
  bool begun_ = false;              // the formed epoch has its tables
  bool late_rows_refused_ = false;  // by a worker, until it says Hello again
  bool draining_ = false;
  absl::Time drain_until_ = absl::InfiniteFuture();
  RouterHello router_hello_;
  bool router_connected_ = false;
};

}  // namespace pregate
