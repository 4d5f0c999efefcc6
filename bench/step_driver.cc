#include "bench/step_driver.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/status.h"

namespace pregate {

int64_t TokenBytes(const ModelSpec& spec, DType dtype) {
  const int64_t h = spec.hidden, d = spec.head_dim;
  int64_t weights = int64_t{spec.vocab_size} * h;
  for (int l = 0; l < spec.num_layers; ++l) {
    weights += h * d * (2 * spec.num_heads + 2 * spec.num_kv_heads);
    weights += 3 * h * (spec.shared_ffn_width(l) + (spec.is_moe() ? spec.own_width[l] : 0));
  }
  return weights * static_cast<int64_t>(DTypeBytes(dtype));
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void StepDriver::Open(int slot, int tokens) {
  const int blocks = (tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  slots_.push_back({0, next_block_, blocks});
  next_block_ += blocks;
  AddSequence(slot);
}

void StepDriver::AddSequence(int slot) {
  SequenceAdd add;
  add.seq_slot = slot;
  add.seq_id = ++next_id_;
  plan_.add.push_back(add);
  BlockTableUpdate update{slot, 0, std::vector<BlockId>(slots_[slot].blocks)};
  std::iota(update.ids.begin(), update.ids.end(), slots_[slot].first_block);
  plan_.blocks.push_back(update);
}

void StepDriver::Close() {
  for (size_t s = 0; s < slots_.size(); ++s) plan_.drop.push_back(static_cast<int32_t>(s));
  slots_.clear();
  next_block_ = 0;
}

void StepDriver::Restart(int slot) {
  plan_.drop.push_back(slot);
  slots_[slot].length = 0;
  AddSequence(slot);
}

void StepDriver::AddRow(int slot, int count, bool emit) {
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(Random(spec_.vocab_size));
    if (!spec_.is_moe()) continue;
    if (Random(7) == 0) route_ = Random(spec_.num_experts);
    routes.push_back(route_);
  }
  AddRow(slot, std::move(tokens), std::move(routes), emit);
}

void StepDriver::AddRow(int slot, std::vector<TokenId> tokens, std::vector<ExpertId> routes,
                        bool emit) {
  Row row;
  row.seq_slot = slot;
  row.position = slots_[slot].length;
  row.count = static_cast<int32_t>(tokens.size());
  row.emit = emit ? Emit::kSample : Emit::kNone;
  row.tokens = std::move(tokens);
  row.routes = std::move(routes);
  slots_[slot].length += row.count;
  plan_.rows.push_back(std::move(row));
}

ExpertId StepDriver::ForcedRoute(int i, int first, int experts) const {
  return (first + i % experts) % spec_.num_experts;
}

void StepDriver::AddRowOf(int slot, int count, int experts, bool emit) {
  PREGATE_CHECK(experts > 0 && experts <= std::min(count, spec_.num_experts), "experts ", experts,
                " of ", spec_.num_experts, " for ", count, " tokens");
  const int first = Random(spec_.num_experts);
  std::vector<TokenId> tokens;
  std::vector<ExpertId> routes;
  for (int i = 0; i < count; ++i) {
    tokens.push_back(Random(spec_.vocab_size));
    routes.push_back(ForcedRoute(i, first, experts));
  }
  AddRow(slot, std::move(tokens), std::move(routes), emit);
}

void StepDriver::AddLateRow(int slot) {
  Row row;
  row.seq_slot = slot;
  row.position = slots_[slot].length++;
  row.count = 1;
  row.late = true;
  row.emit = Emit::kSample;
  plan_.rows.push_back(std::move(row));
}

StepRun StepDriver::Run() {
  plan_.epoch = 1;
  plan_.step_id = ++step_;
  const StepResult result = executor_->Run(plan_, nullptr);
  PREGATE_CHECK(
      result.status.ok() && result.row_errors.empty(), "step: ",
      result.row_errors.empty() ? result.status.ToString() : result.row_errors[0].message);
  plan_ = StepPlan();
  StepRun run;
  static_cast<StepTimes&>(run) = executor_->times();
  run.step_us = result.step_us;
  run.unique_experts = result.unique_experts;
  return run;
}

void StepDriver::OpenBatch(int batch, int context, int steps) {
  for (int s = 0; s < batch; ++s) {
    Open(s, context + steps + 2);
    AddRow(s, context, true);
    Run();
  }
}

void StepDriver::AddDecodeRows(int batch, bool late) {
  for (int s = 0; s < batch; ++s) late ? AddLateRow(s) : AddRow(s, 1, true);
}

StepRun StepDriver::DecodeStep(int batch, bool late) {
  AddDecodeRows(batch, late);
  return Run();
}

StepRun StepDriver::DecodeStepOf(int batch, int experts) {
  PREGATE_CHECK(experts > 0 && experts <= std::min(batch, spec_.num_experts), "experts ", experts,
                " of ", spec_.num_experts, " for ", batch, " tokens");
  const int first = Random(spec_.num_experts);
  for (int s = 0; s < batch; ++s) {
    AddRow(s, {Random(spec_.vocab_size)}, {ForcedRoute(s, first, experts)}, true);
  }
  const StepRun run = Run();
  PREGATE_CHECK(run.unique_experts == experts, "experts of the step: ", run.unique_experts);
  return run;
}

}  // namespace pregate
