#include "gateway_service/edge/cluster_codec.h"

#include "common/rpc/decode.h"

namespace pregate::gateway {
namespace {

WorkerStatus Decode(const v1::ClusterWorker& in) {
  return {.rank = in.rank(),
          .up = in.up(),
          .member = in.member(),
          .device = in.device(),
          .unit_slots = in.unit_slots(),
          .units = in.units(),
          .unit_hits = in.unit_hits(),
          .unit_misses = in.unit_misses(),
          .stall_us = in.stall_us()};
}

StepStatus Decode(const v1::ClusterStep& in) {
  return {.number = static_cast<int64_t>(in.number()),
          .begin_us = in.begin_us(),
          .round_trip_us = in.round_trip_us(),
          .step_us = in.step_us(),
          .decode_rows = in.decode_rows(),
          .prefill_rows = in.prefill_rows(),
          .prefill_tokens = in.prefill_tokens(),
          .draft_tokens = in.draft_tokens(),
          .accepted_draft_tokens = in.accepted_draft_tokens(),
          .experts = ToVector(in.experts()),
          .unique_experts = in.unique_experts(),
          .unit_hits = in.unit_hits(),
          .unit_misses = in.unit_misses(),
          .stall_us = in.stall_us()};
}

}  // namespace

CellStatus DecodeClusterStatus(const v1::GetClusterStatusResponse& in) {
  CellStatus out = {.model = in.model(),
                    .num_experts = in.num_experts(),
                    .serving = in.serving(),
                    .epoch = in.epoch(),
                    .router_up = in.router_up(),
                    .requests_running = in.requests_running(),
                    .requests_waiting = in.requests_waiting(),
                    .kv_blocks = in.kv_blocks(),
                    .kv_blocks_used = in.kv_blocks_used(),
                    .kv_blocks_cached = in.kv_blocks_cached(),
                    .reuse_ratio = in.reuse_ratio(),
                    .optimal_reuse_ratio = in.optimal_reuse_ratio(),
                    .routed_ahead_tokens = in.routed_ahead_tokens()};
  for (const v1::ClusterWorker& worker : in.workers()) out.workers.push_back(Decode(worker));
  for (const v1::ClusterStep& step : in.steps()) out.steps.push_back(Decode(step));
  return out;
}

}  // namespace pregate::gateway
