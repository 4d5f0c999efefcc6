#include "scheduler_service/edge/cluster_codec.h"

#include "common/base/gateway_limits.h"
#include "common/rpc/worker_codec.h"

namespace pregate {
namespace {

void Encode(const WorkerStanding& worker, v1::ClusterWorker* out) {
  out->set_up(worker.up);
  out->set_member(worker.member);
  out->set_device(worker.device);
  out->set_unit_slots(worker.unit_slots);
  out->set_unit_hits(worker.tally.hits);
  out->set_unit_misses(worker.tally.misses);
  out->set_stall_us(worker.tally.stall_us);
}

void Encode(const scheduler::StepRecord& step, v1::ClusterStep* out) {
  out->set_number(step.number);
  out->set_begin_us(absl::ToUnixMicros(step.begin));
  out->set_round_trip_us(absl::ToInt64Microseconds(step.round_trip));
  out->set_step_us(step.step_us);
  out->set_decode_rows(step.decode_rows);
  out->set_prefill_rows(step.prefill_rows);
  out->set_prefill_tokens(step.prefill_tokens);
  out->set_draft_tokens(step.draft_tokens);
  out->set_accepted_draft_tokens(step.accepted_drafts);
  out->mutable_experts()->Add(step.experts.begin(), step.experts.end());
  out->set_unique_experts(step.unique_experts);
  out->set_unit_hits(step.units.hits);
  out->set_unit_misses(step.units.misses);
  out->set_stall_us(step.units.stall_us);
}

void Encode(const scheduler::RankStep& step, v1::ClusterRankStep* out) {
  out->set_rank(step.rank);
  out->set_incarnation(step.incarnation);
  out->set_begin_us(step.begin_us);
  out->set_step_us(step.step_us);
  out->set_answered_us(absl::ToUnixMicros(step.answered));
  out->set_device_clock(step.device_clock);
  for (const ActivitySpan& span : step.activities) EncodeActivity(span, out->add_activities());
}

// From the newest step back, while there is room.
void AddTimeline(absl::Span<const scheduler::StepRecord> steps, int32_t timeline_steps,
                 v1::GetClusterStatusResponse* out) {
  size_t room = kActivitiesShownMax;
  for (int i = static_cast<int>(steps.size()) - 1; i >= 0 && timeline_steps > 0;
       --i, --timeline_steps) {
    size_t num_activities = 0;
    for (const scheduler::RankStep& rank : *steps[i].ranks) {
      num_activities += rank.activities.size();
    }
    if (num_activities > room) return;
    room -= num_activities;
    for (const scheduler::RankStep& rank : *steps[i].ranks) {
      Encode(rank, out->mutable_steps(i)->add_ranks());
    }
  }
}

}  // namespace

v1::GetClusterStatusResponse EncodeClusterStatus(const ServedModel& model,
                                                 const ClusterStanding& standing,
                                                 int32_t timeline_steps) {
  v1::GetClusterStatusResponse out;
  out.set_model(model.name);
  out.set_num_experts(model.spec.num_experts);
  out.set_serving(standing.serving);
  out.set_epoch(standing.epoch);
  out.set_router_up(model.has_routes() && standing.gauges.router_up);
  out.set_requests_running(standing.gauges.requests_running);
  out.set_requests_waiting(standing.gauges.requests_waiting);
  out.set_kv_blocks(standing.gauges.kv_blocks);
  out.set_kv_blocks_used(standing.gauges.kv_blocks_used);
  out.set_kv_blocks_cached(standing.gauges.kv_blocks_cached);
  out.set_reuse_ratio(standing.gauges.reuse.ratio);
  out.set_optimal_reuse_ratio(standing.gauges.reuse.optimal_ratio);
  out.set_routed_ahead_tokens(standing.gauges.routed_ahead);
  size_t room = kUnitsShownMax;
  for (const WorkerStanding& worker : standing.workers) {
    v1::ClusterWorker* const to = out.add_workers();
    to->set_rank(out.workers_size() - 1);
    Encode(worker, to);
    if (worker.units.size() > room) continue;
    room -= worker.units.size();
    for (const UnitState state : worker.units) {
      to->mutable_units()->push_back(static_cast<char>(state));
    }
  }
  for (const scheduler::StepRecord& step : standing.steps) Encode(step, out.add_steps());
  AddTimeline(standing.steps, timeline_steps, &out);
  return out;
}

}  // namespace pregate
