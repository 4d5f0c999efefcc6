// Drives one executor with hand-made plans. Routes follow runs of about seven tokens, as the
// router's do.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "common/model/spec/spec.h"
#include "common/step/plan.h"
#include "common/step/result.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {

// Weight bytes that one decoded token reads: everything but the rows of the embedding and the
// experts not taken.
int64_t TokenBytes(const ModelSpec& spec, DType dtype);

double Median(std::vector<double> values);

struct StepRun : StepTimes {
  int64_t step_us = 0;
  int32_t unique_experts = 0;
};

// The executor and the spec outlive it.
class StepDriver {
 public:
  StepDriver(StepExecutor* executor, const ModelSpec& spec, uint64_t seed)
      : executor_(executor), spec_(spec), random_(seed) {}

  // Slots count up from 0. Room for `tokens` tokens.
  void Open(int slot, int tokens);
  void Close();  // all of them
  // The slot's sequence ends, and another one begins in its blocks. REQUIRES: a Run since its Open.
  void Restart(int slot);
  // Tokens and routes are drawn, or given.
  void AddRow(int slot, int count, bool emit);
  void AddRow(int slot, std::vector<TokenId> tokens, std::vector<ExpertId> routes, bool emit);
  // Drawn tokens on routes that name exactly `experts` experts, each as often as the others or once more.
  void AddRowOf(int slot, int count, int experts, bool emit);
  // The token that the slot's last row has sampled, on the route that the worker's replica gave it. REQUIRES:
  // that row emits.
  void AddLateRow(int slot);
  int length(int slot) const { return slots_[slot].length; }
  int num_open() const { return static_cast<int>(slots_.size()); }
  StepRun Run();

  // `batch` sequences with `context` tokens each, and room for `steps` more.
  void OpenBatch(int batch, int context, int steps);
  // One token for each of the first `batch` slots: late, as in serving, or a drawn one on a drawn route, which
  // the replica has to see first.
  void AddDecodeRows(int batch, bool late);
  StepRun DecodeStep(int batch, bool late = false);
  // One for each on routes that name exactly `experts` experts, as AddRowOf's. Which experts these are
  // changes from step to step.
  StepRun DecodeStepOf(int batch, int experts);

 private:
  struct Slot {
    int length;
    BlockId first_block;
    int blocks;
  };

  int Random(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  void AddSequence(int slot);
  // Of the i-th token, from expert `first` on.
  ExpertId ForcedRoute(int i, int first, int experts) const;

  StepExecutor* const executor_;
  const ModelSpec& spec_;
  std::mt19937_64 random_;
  StepPlan plan_;
  std::vector<Slot> slots_;
  BlockId next_block_ = 0;
  SeqId next_id_ = 0;
  StepId step_ = 0;
  ExpertId route_ = 0;
};

}  // namespace pregate
