// Between scheduler and worker, both ways. A plan is also checked and applied to a table of
// sequences, as a worker does before it computes.
#include "common/rpc/testing/random_proto.h"
#include "common/rpc/worker_codec.h"
#include "expert_service/core/plan_check.h"
#include "tests/fuzz/proto_format.h"

namespace pregate::fuzz::attach {
namespace {

StepLimits Limits() {
  StepLimits limits;
  limits.seq_slots = 4;
  limits.step_tokens = 32;
  limits.context_tokens = 64;
  limits.kv_blocks = 10;
  limits.vocab_size = 100;
  limits.num_experts = 3;
  limits.num_layers = 2;
  limits.logprobs_max = 5;
  limits.has_replica = true;
  return limits;
}

// Slot 1 is open: 5 tokens long, room for 16, the sample at position 5 is token 42.
SequenceTable Table() {
  SequenceTable table(4);
  SequenceAdd add;
  add.seq_slot = 1;
  add.seq_id = 77;
  add.history = {1, 2, 3, 4, 5};
  table.Open(add);
  table.SetBlocks({1, 0, {9}});
  table.at(1).sampled_position = 5;
  table.at(1).sampled_token = 42;
  return table;
}

// One row of each kind: tokens that are known, a late one, scores for a sequence that the plan
// opens.
StepPlan ValidPlan() {
  StepPlan plan{.epoch = 1, .step_id = 1};
  SequenceAdd& add = plan.add.emplace_back();
  add.seq_slot = 2;
  add.seq_id = 78;
  add.generated_from = 1;
  add.logit_bias = {{3, -1.5f}, {99, 100}};
  add.banned_until = 4;
  add.banned = {0, 99};
  plan.blocks.push_back({.seq_slot = 2, .first_index = 0, .ids = {0, 3}});
  Row& known = plan.rows.emplace_back();
  known = {.seq_slot = 1, .position = 5, .count = 2, .emit = Emit::kSample};
  known.tokens = {42, 43};
  known.routes = {0, 2};
  known.logprobs_k = 2;
  known.allowed = {1, 0, 0, 1};
  Row& scored = plan.rows.emplace_back();
  scored = {.seq_slot = 2, .position = 0, .count = 3, .emit = Emit::kScore};
  scored.tokens = {5, 6, 7};
  scored.routes = {0, 1, 2};
  scored.targets = {6, 7, 8};
  plan.wanted.push_back({.rank = 0, .units = {{0, 1}, {1, 2}}, .load_first = 1});
  return plan;
}

StepPlan LatePlan() {
  StepPlan plan{.epoch = 1, .step_id = 1};
  plan.rows.push_back(
      {.seq_slot = 1, .position = 5, .count = 1, .late = true, .emit = Emit::kSample});
  return plan;
}

// In the worker's order: drops, adds, blocks, rows.
void Apply(const StepPlan& plan) {
  const StepLimits limits = Limits();
  SequenceTable table = Table();
  if (!CheckStepOrder(plan, 1, 0).ok() || !CheckPlan(plan, limits, table).ok()) return;
  for (const int32_t slot : plan.drop) table.Close(slot);
  for (const SequenceAdd& add : plan.add) {
    const absl::Status status = CheckAdd(add, limits);
    table.Open(add);
    if (!status.ok()) table.at(add.seq_slot).Fail(std::string(status.message()));
  }
  for (const BlockTableUpdate& update : plan.blocks) {
    Sequence& sequence = table.at(update.seq_slot);
    if (sequence.failed() || !CheckBlocks(update, limits, sequence).ok()) continue;
    table.SetBlocks(update);
  }
  for (const Row& row : plan.rows) {
    Sequence& sequence = table.at(row.seq_slot);
    if (sequence.failed() || !CheckRow(row, limits, sequence).ok()) continue;
    sequence.length = row.position + row.count;
    PREGATE_CHECK(sequence.length <= sequence.capacity_tokens());
    ReplicaFillFrom(sequence, row);
  }
}

template <typename Message>
std::vector<Message> Random(int count) {
  std::mt19937_64 random(1);
  std::vector<Message> messages(count);
  for (Message& message : messages) testing::FillRandom(&message, random, {});
  return messages;
}

std::vector<v1::AttachRequest> Requests() {
  std::vector<v1::AttachRequest> messages;
  for (v1::AttachRequest& message : Random<v1::AttachRequest>(8)) {
    if (DecodeToWorker(message).ok()) messages.push_back(std::move(message));
  }
  messages.push_back(EncodeToWorker(std::make_shared<const StepPlan>(ValidPlan())));
  messages.push_back(EncodeToWorker(std::make_shared<const StepPlan>(LatePlan())));
  return messages;
}

std::vector<v1::AttachResponse> Responses() {
  std::vector<v1::AttachResponse> messages;
  for (v1::AttachResponse& message : Random<v1::AttachResponse>(32)) {
    if (DecodeFromWorker(message).ok()) messages.push_back(std::move(message));
  }
  StepResult result{.epoch = 1, .rank = 1, .incarnation = 3, .step_id = 1};
  result.samples.push_back({.seq_id = 1, .position = 4, .token = 5, .route = 1});
  result.samples.back().logprobs = {{5, -0.5f}, {6, -1}};
  result.scores.push_back({.seq_id = 2, .position = 1, .logprobs = {-1, -2}, .greedy = {1, 0}});
  result.row_errors.push_back({.seq_id = 3, .message = "why"});
  messages.push_back(EncodeFromWorker(result));
  return messages;
}

const Registration request(ProtoFormat<v1::AttachRequest>(
    "attach_request", Requests, [](const v1::AttachRequest& message) {
      const auto decoded = DecodeToWorker(message);
      if (!decoded.ok()) return false;
      CheckRoundTrip(message, EncodeToWorker, DecodeToWorker);
      if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&*decoded)) Apply(**plan);
      return true;
    }));

const Registration response(ProtoFormat<v1::AttachResponse>("attach_response", Responses,
                                                            [](const v1::AttachResponse& message) {
                                                              if (!DecodeFromWorker(message).ok())
                                                                return false;
                                                              CheckRoundTrip(message,
                                                                             EncodeFromWorker,
                                                                             DecodeFromWorker);
                                                              return true;
                                                            }));

}  // namespace
}  // namespace pregate::fuzz::attach
