#include "expert_service/testing/test_engine.h"

#include <iterator>
#include <numeric>
#include <thread>

#include "common/base/status.h"
#include "expert_service/testing/engine_device.h"

namespace pregate {
namespace {

// Runs task(rank) for every rank at once.
template <class Task>
void OnRanks(size_t world_size, Task task) {
  std::vector<std::thread> threads;
  for (size_t rank = 1; rank < world_size; ++rank) threads.emplace_back(task, rank);
  task(0);
  for (std::thread& thread : threads) thread.join();
}

template <class T>
void Append(std::vector<T>& from, std::vector<T>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

TestEngine::TestEngine(const Checkpoint& checkpoint, const TestEngineOptions& o)
    : spec(checkpoint.spec()) {
  for (int32_t rank = 0; rank < o.world_size; ++rank) {
    devices.push_back(o.at_once ? MakeAtOnceTestDevice(o.threads)
                                : MakeEngineTestDevice(o.threads));
    ExecutorOptions options;
    options.rank = rank;
    options.types = *TypesOf(o.dtype);
    options.kv_blocks = kBlocks;
    options.seq_slots = kSlots;
    options.step_tokens = kStepTokens;
    options.context_tokens = kContext;
    options.logits_rows_max = 5;
    options.expert_slots = o.expert_slots;
    if (o.world_size > 1) options.experts.emplace();  // Form names them
    auto created = StepExecutor::Create(checkpoint, devices.back().get(), &clock, options, nullptr);
    PREGATE_CHECK(created.ok(), "", created.status().ToString());
    executors.push_back(*std::move(created));
  }
  if (o.world_size == 1 && !o.exchange_alone) return;
  if (o.exchange_alone) alone = MakeEngineTestCollectives(devices[0].get());
  CollectiveFactory& factory = o.exchange_alone ? *alone : fabric;
  for (ExpertId e = 0; e < spec.num_experts; ++e) placement.ranks.push_back({e % o.world_size});
  std::vector<int32_t> members(o.world_size);
  std::iota(members.begin(), members.end(), 0);
  const std::string rendezvous = *factory.MakeRendezvous();
  collectives.resize(o.world_size);
  OnRanks(o.world_size, [&](size_t rank) {
    collectives[rank] =
        *factory.Join(rendezvous, static_cast<int>(rank), o.world_size, absl::Seconds(10), {});
    const absl::Status formed =
        executors[rank]->Form(members, placement, collectives[rank].get(), nullptr);
    PREGATE_CHECK(formed.ok(), "", formed.ToString());
  });
}

StepResult TestEngine::Run(StepPlan plan) {
  for (SequenceAdd& add : plan.add) {
    add.home_rank = static_cast<int32_t>(add.seq_id % executors.size());
  }
  std::vector<StepResult> results(executors.size());
  OnRanks(executors.size(),
          [&](size_t rank) { results[rank] = executors[rank]->Run(plan, nullptr); });
  StepResult all = std::move(results[0]);
  for (size_t rank = 1; rank < results.size(); ++rank) {
    if (all.status.ok()) all.status = results[rank].status;
    Append(results[rank].samples, all.samples);
    Append(results[rank].scores, all.scores);
    Append(results[rank].logits, all.logits);
    Append(results[rank].row_errors, all.row_errors);
  }
  times = StepTimes();
  for (const auto& executor : executors) {
    times.num_tokens += executor->times().num_tokens;
    times.unit_misses += executor->times().unit_misses;
    times.exchange_bytes_sent += executor->times().exchange_bytes_sent;
    times.exchange_bytes_received += executor->times().exchange_bytes_received;
  }
  return all;
}

}  // namespace pregate
