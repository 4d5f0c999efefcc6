#include "expert_service/engine/worker_loader.h"

#include <limits>

#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/collective/any/device_collectives.h"
#include "common/config/values.h"
#include "common/device/any/any_device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/slot_choice.h"

namespace pregate {
namespace {

constexpr absl::Duration kProgressInterval = absl::Seconds(5);

absl::StatusOr<ExecutorOptions> ToExecutorOptions(const WorkerOptions& options) {
  ASSIGN_OR_RETURN(const StepTypes types, TypesOf(options.dtype));
  if (options.rank >= options.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rank is ", options.rank, ", not below --world-size ", options.world_size));
  }
  return ExecutorOptions{.rank = options.rank,
                         .types = types,
                         .kv_cache_bytes = options.kv_cache_bytes,
                         .kv_blocks = options.kv_blocks,
                         .seq_slots = options.seq_slots,
                         .step_tokens = options.step_tokens,
                         .context_tokens = options.context_tokens,
                         .load_threads = options.threads};
}

// The share that the scheduler will place here when all workers are there.
std::vector<ExpertId> ExpertsAtStart(int32_t num_experts, const WorkerOptions& options) {
  std::vector<ExpertId> experts;
  for (ExpertId e = options.rank % options.world_size; e < num_experts; e += options.world_size) {
    experts.push_back(e);
  }
  return experts;
}

// Of `all_bytes` of all experts, the share of those held from the start.
int64_t HeldBytes(int64_t all_bytes, const ModelSpec& spec, const ExecutorOptions& options) {
  return spec.is_moe()
             ? all_bytes / spec.num_experts * static_cast<int64_t>(options.experts->size())
             : 0;
}

void LogMemory(const MemoryPlan& plan, WorkerObserver* observer) {
  observer->OnLog(LogLevel::kInfo, "memory plan",
                  {{"total_bytes", plan.total_bytes()},
                   {"embedding_bytes", plan.embedding_bytes},
                   {"attention_bytes", plan.attention_bytes},
                   {"shared_ffn_bytes", plan.shared_ffn_bytes},
                   {"expert_bytes", plan.expert_bytes},
                   {"expert_host_bytes", plan.expert_host_bytes},
                   {"router_bytes", plan.router_bytes},
                   {"kv_bytes", plan.kv_bytes},
                   {"kv_blocks", plan.kv_blocks},
                   {"kv_block_bytes", plan.kv_block_bytes},
                   {"context_tokens", plan.context_tokens},
                   {"step_bytes", plan.step_bytes}});
}

void LogChoice(const SlotChoice& choice, const ModelSpec& spec, const MemoryPlan& plan,
               WorkerObserver* observer) {
  const bool chosen = choice.budget.bytes > 0;  // there is something to choose from
  observer->OnLog(chosen ? LogLevel::kInfo : LogLevel::kDebug, "expert slots",
                  {{"expert_slots", choice.expert_slots},
                   {"experts", spec.num_experts},
                   {"reason", choice.reason},
                   {"free_bytes", choice.budget.free_bytes},
                   {"reserve_bytes", choice.budget.reserve_bytes},
                   {"budget_bytes", choice.budget.bytes},
                   {"slots_bytes", plan.expert_bytes},
                   {"kv_bytes", plan.kv_bytes},
                   {"rest_bytes", plan.total_bytes() - plan.expert_bytes - plan.kv_bytes}});
}

// What is measured is measured on this worker, before it serves; the share of tokens that keep their
// expert is assumed.
absl::Status LogExpectedSpeed(StepExecutor* executor, const ModelSpec& spec, int32_t expert_slots,
                              WorkerObserver* observer) {
  ASSIGN_OR_RETURN(const DecodeCost cost, executor->MeasureDecodeCost());
  const auto tokens_per_s = [&](int32_t slots) {
    return ExpectedTokensPerSecond(cost, spec.num_layers, spec.num_experts, slots, kAssumedKeep);
  };
  observer->OnLog(LogLevel::kInfo, "expected speed of one stream",
                  {{"tokens_per_s", tokens_per_s(expert_slots)},
                   {"tokens_per_s_if_all_stayed", tokens_per_s(0)},
                   {"measured_step_us", absl::ToInt64Microseconds(cost.step)},
                   {"measured_unit_load_us", absl::ToInt64Microseconds(cost.unit_load)},
                   {"assumed_keep", kAssumedKeep}});
  return absl::OkStatus();
}

// `others` is what the memory holds beside the KV cache.
absl::Status CheckRoom(const WorkerOptions& options, const MemoryPlan& plan, int64_t others,
                       int64_t available, absl::string_view smaller) {
  if (plan.kv_bytes + others <= available) return absl::OkStatus();
  const std::string kv = options.kv_blocks > 0 ? absl::StrCat("--kv-blocks ", options.kv_blocks)
                                               : absl::StrCat("--kv-cache-bytes ",
                                                              FormatBytes(options.kv_cache_bytes));
  return absl::ResourceExhaustedError(absl::StrCat(
      kv, ": the KV cache of ", plan.kv_bytes >> 20, " MiB does not fit beside the ", others >> 20,
      " MiB of the rest: ", available >> 20, " MiB are available",
      others < available ? absl::StrCat(", so at most ", (available - others) >> 20, "MiB")
                         : absl::StrCat("; ", smaller)));
}

// Before minutes are spent on reading. Memory of the host is given whether it is there or not, and
// taken back by killing the process: there must be some for every expert that this worker may have to
// take over. A card refuses it, and the worker lives on: there those count that it holds at first.
absl::Status CheckFits(const WorkerOptions& options, const Device& device, const MemoryPlan& plan,
                       const ModelSpec& spec, const ExecutorOptions& executor_options) {
  const auto held = [&](int64_t bytes) { return HeldBytes(bytes, spec, executor_options); };
  const int64_t images_bytes = held(plan.expert_host_bytes);
  int64_t others = plan.total_bytes() - plan.kv_bytes;
  if (!device.host_memory() && plan.unit_slots == 0) {
    others -= plan.expert_bytes - held(plan.expert_bytes);
  }
  const absl::StatusOr<DeviceMemory> memory = device.Memory();
  int64_t room = memory.ok() ? memory->free_bytes : std::numeric_limits<int64_t>::max();
  if (device.host_memory()) {
    RETURN_IF_ERROR(CheckRoom(options, plan, others + images_bytes, room,
                              "--dtype bf16 makes the rest smaller"));
  } else if (const auto host = AvailableMemoryBytes(); host && images_bytes > *host) {
    return absl::ResourceExhaustedError(
        absl::StrCat("--expert-slots: the experts' images take ", images_bytes >> 20,
                     " MiB of the host's memory, of which ", *host >> 20, " MiB are available"));
  }
  if (options.device_memory_bytes > 0) room = options.device_memory_bytes;
  return CheckRoom(options, plan, others, room,
                   options.device_memory_bytes > 0
                       ? "more --device-memory-bytes or fewer --expert-slots would do"
                       : "--expert-slots and --dtype bf16 make the rest smaller");
}

// Nothing for a load that is quick, else a line now and then.
LoadProgress LogProgress(WorkerObserver* observer, Clock* clock) {
  return [observer, clock, last = clock->Now()](int done, int total) mutable {
    if (clock->Now() - last < kProgressInterval) return true;
    last = clock->Now();
    observer->OnLog(LogLevel::kInfo, "loading weights", {{"parts", done}, {"of", total}});
    return true;
  };
}

}  // namespace

void DeclareModelOptions(OptionSet& set, WorkerOptions* options) {
  set.String("model", &options->model, "Checkpoint directory or GGUF file").Required();
  set.Choice("dtype", &options->dtype, DTypeChoices(),
             "Type of weights, KV and exchanged activations");
  set.Choice("device", &options->device, {"cpu", "cuda"},
             "What computes: this machine's CPU or a card");
  set.Int("threads", &options->threads, 0, kThreadsMax, "threads",
          "Compute threads; 0: one a hardware thread");
  set.Bytes("kv-cache-bytes", &options->kv_cache_bytes, kKvCacheBytesMin, kKvCacheBytesMax,
            "Memory for KV blocks");
  set.IntOrAuto("expert-slots", &options->expert_slots, 0, kExpertsMax, "experts",
                "Experts whose units fit on the device at once, the others wait in host memory; 0: "
                "all, auto: as many as the device's memory has room for");
  set.Bytes("device-memory-bytes", &options->device_memory_bytes, 0, kKvCacheBytesMax,
            "Device memory for weights, KV and buffers of a worker; 0: what is free, of which auto "
            "leaves a 32nd of the device's");
  set.Int("seq-slots", &options->seq_slots, 1, kSeqSlotsMax, "sequences", "Sequences open at once");
}

void DeclareWorkerOptions(OptionSet& set, WorkerOptions* options) {
  DeclareModelOptions(set, options);
  set.Int("rank", &options->rank, 0, kWorkersMax - 1, "",
          "Index of this worker in the scheduler's --workers");
  set.Int(
      "world-size", &options->world_size, 1, kWorkersMax, "workers",
      "Workers of the cell; of the experts this one's share is read at start, others when it is "
      "to run them");
  set.Int("kv-blocks", &options->kv_blocks, 0, kKvBlocksMax, "blocks of 16 tokens",
          "KV blocks; 0: as many as --kv-cache-bytes holds");
  set.Alternatives({"kv-cache-bytes", "kv-blocks"}, /*together=*/true);
  set.Int("step-tokens", &options->step_tokens, 1, kStepTokensMax, "tokens",
          "Most tokens in one step; sizes the buffers");
  set.Int("context-tokens", &options->context_tokens, 0, kContextTokensMax, "tokens",
          "Longest sequence; 0: the model's");
  set.Choice(
      "exchange-alone", &options->exchange_alone, {"on", "off"},
      "Send expert rows through the collective even when this worker is alone, to measure it");
  set.Choice("card-exchange", &options->card_exchange, {"calls", "windows"},
             "How expert rows travel between cards: by NCCL's calls, or straight into the peers' "
             "memory where all workers ask for it and reach each other's (16 MiB of each card a "
             "worker)");
  set.Duration("scheduler-lease-s", &options->scheduler_lease, absl::Seconds(1),
               absl::Milliseconds(kLeaseMsMax),
               "How long a silent scheduler holds this worker while another one asks for it");
}

absl::StatusOr<LoadedWorker> LoadWorker(const WorkerOptions& options, Clock* clock,
                                        CollectiveFactory* collectives, WorkerObserver* observer,
                                        std::function<void(const absl::Status&)> on_broken) {
  ASSIGN_OR_RETURN(ExecutorOptions executor_options, ToExecutorOptions(options));
  const absl::Time start = clock->Now();
  LoadedWorker worker;
  ASSIGN_OR_RETURN(worker.checkpoint, Checkpoint::Open(options.model));
  const ModelSpec& spec = worker.checkpoint->spec();
  executor_options.experts = ExpertsAtStart(spec.num_experts, options);
  ASSIGN_OR_RETURN(worker.device, MakeDevice(options.device, options.threads));
  SlotChoice choice;
  if (options.expert_slots) {
    choice.expert_slots = *options.expert_slots;
  } else {
    auto chosen = ChooseExpertSlots(spec, *worker.device, executor_options,
                                    options.device_memory_bytes, options.device_sharers);
    if (!chosen.ok()) {
      return absl::Status(chosen.status().code(),
                          absl::StrCat("--expert-slots auto: ", chosen.status().message()));
    }
    choice = *std::move(chosen);
  }
  executor_options.expert_slots = choice.expert_slots;
  ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(spec, *worker.device, executor_options));
  LogMemory(memory, observer);
  if (!options.expert_slots) LogChoice(choice, spec, memory, observer);
  observer->OnMemory(memory);
  RETURN_IF_ERROR(CheckFits(options, *worker.device, memory, spec, executor_options));
  ASSIGN_OR_RETURN(std::unique_ptr<StepExecutor> executor,
                   StepExecutor::Create(*worker.checkpoint, worker.device.get(), clock,
                                        executor_options, LogProgress(observer, clock)));
  if (!options.expert_slots && choice.expert_slots > 0 && !executor_options.experts->empty()) {
    RETURN_IF_ERROR(LogExpectedSpeed(executor.get(), spec, choice.expert_slots, observer));
  }
  WorkerEngineOptions engine_options{.rank = options.rank,
                                     .incarnation = RandomId(),
                                     .exchange_alone = options.exchange_alone == "on",
                                     .lease = options.scheduler_lease,
                                     .on_broken = std::move(on_broken)};
  worker.collectives =
      MakeDeviceCollectives(worker.device.get(), options.card_exchange == "windows");
  if (worker.collectives != nullptr) collectives = worker.collectives.get();
  if (engine_options.exchange_alone && collectives == nullptr) {
    return absl::InvalidArgumentError("exchange-alone is on, but this worker has no collective");
  }
  const ReadCost cost = worker.checkpoint->read_cost();
  observer->OnLog(LogLevel::kInfo, "worker loaded",
                  {{"model_digest", executor->model_digest()},
                   {"numerics_id", executor->numerics_id()},
                   {"device", executor->device_name()},
                   {"incarnation", engine_options.incarnation},
                   {"read_bytes", cost.bytes},
                   {"load_s", absl::ToDoubleSeconds(clock->Now() - start)},
                   {"check_s", absl::ToDoubleSeconds(cost.checking)}});
  worker.engine = std::make_unique<WorkerEngine>(std::move(engine_options), std::move(executor),
                                                 clock, collectives, observer);
  worker.engine->Start();
  return worker;
}

}  // namespace pregate
