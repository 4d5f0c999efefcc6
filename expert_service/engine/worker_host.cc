#include "expert_service/engine/worker_host.h"

#include "common/base/limits.h"
#include "common/base/memory.h"
#include "common/base/random_id.h"
#include "common/base/status.h"
#include "common/collective/any/device_collectives.h"
#include "common/config/values.h"
#include "common/device/any/any_device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {
namespace {

constexpr int kThreadsMax = 256;
constexpr absl::Duration kProgressInterval = absl::Seconds(5);
constexpr int64_t kKvCacheBytesMin = int64_t{1} << 16;
constexpr int64_t kKvCacheBytesMax = int64_t{1} << 43;

absl::StatusOr<ExecutorOptions> ToExecutorOptions(const WorkerHostOptions& options) {
  ASSIGN_OR_RETURN(const DType dtype, ParseDType(options.dtype));
  ASSIGN_OR_RETURN(const StepTypes types, TypesOf(dtype));
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
                         .expert_slots = options.expert_slots};
}

// The share that the scheduler will place here when all workers are there.
std::vector<ExpertId> ExpertsAtStart(int32_t num_experts, const WorkerHostOptions& options) {
  std::vector<ExpertId> experts;
  for (ExpertId e = options.rank % options.world_size; e < num_experts; e += options.world_size) {
    experts.push_back(e);
  }
  return experts;
}

void LogMemory(const MemoryPlan& plan, const Log* log) {
  log->Info("memory plan", {{"total_bytes", plan.total_bytes()},
                            {"embedding_bytes", plan.embedding_bytes},
                            {"attention_bytes", plan.attention_bytes},
                            {"resident_ffn_bytes", plan.resident_ffn_bytes},
                            {"expert_bytes", plan.expert_bytes},
                            {"expert_host_bytes", plan.expert_host_bytes},
                            {"router_bytes", plan.router_bytes},
                            {"kv_bytes", plan.kv_bytes},
                            {"kv_blocks", plan.kv_blocks},
                            {"kv_block_bytes", plan.kv_block_bytes},
                            {"context_tokens", plan.context_tokens},
                            {"step_bytes", plan.step_bytes}});
}

// Memory of the host is given whether it is there or not, and taken back by killing the process.
absl::Status CheckFits(const WorkerHostOptions& options, const MemoryPlan& plan) {
  const std::optional<int64_t> available = AvailableMemoryBytes();
  if (options.device != "cpu" || !available || plan.total_bytes() <= *available) {
    return absl::OkStatus();
  }
  const int64_t others = plan.total_bytes() - plan.kv_bytes;
  const std::string kv = options.kv_blocks > 0 ? absl::StrCat("--kv-blocks ", options.kv_blocks)
                                               : absl::StrCat("--kv-cache-bytes ",
                                                              FormatBytes(options.kv_cache_bytes));
  return absl::ResourceExhaustedError(absl::StrCat(
      kv, ": the KV cache of ", plan.kv_bytes >> 20, " MiB does not fit beside the ", others >> 20,
      " MiB of the rest: ", *available >> 20, " MiB are available",
      others < *available ? absl::StrCat(", so at most ", (*available - others) >> 20, "MiB")
                          : "; --expert-slots and --dtype bf16 make the rest smaller"));
}

// Nothing for a load that is quick, else a line now and then.
LoadProgress LogProgress(const Log* log, Clock* clock) {
  return [log, clock, last = clock->Now()](int done, int total) mutable {
    if (clock->Now() - last < kProgressInterval) return true;
    last = clock->Now();
    log->Info("loading weights", {{"parts", done}, {"of", total}});
    return true;
  };
}

}  // namespace

struct WorkerHost::State {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<CollectiveFactory> collectives;  // the device's own, if it has any
  MemoryPlan memory;
  int32_t rank = 0;
  std::unique_ptr<WorkerLoop> loop;
};

void DeclareWorkerHostOptions(OptionSet& set, WorkerHostOptions* options) {
  set.String("model", &options->model, "Checkpoint directory or GGUF file").Required();
  set.Choice("dtype", &options->dtype, {"f32", "bf16"},
             "Type of weights, KV and exchanged activations")
      .ClusterWide();
  set.Choice("device", &options->device, {"cpu", "cuda"},
             "What computes: this machine's CPU or a card");
  set.Int("threads", &options->threads, 0, kThreadsMax, "threads",
          "Compute threads; 0: one a hardware thread");
  set.Int("rank", &options->rank, 0, kWorkersMax - 1, "",
          "Index of this worker in the scheduler's --workers");
  set.Int(
      "world-size", &options->world_size, 1, kWorkersMax, "workers",
      "Workers of the cell; of the experts this one's share is read at start, others when it is "
      "to run them");
  set.Bytes("kv-cache-bytes", &options->kv_cache_bytes, kKvCacheBytesMin, kKvCacheBytesMax,
            "Memory for KV blocks");
  set.Int("kv-blocks", &options->kv_blocks, 0, kKvBlocksMax, "blocks of 16 tokens",
          "KV blocks; 0: as many as --kv-cache-bytes holds");
  set.Alternatives({"kv-cache-bytes", "kv-blocks"}, /*together=*/true);
  set.Int("step-tokens", &options->step_tokens, 1, kStepTokensMax, "tokens",
          "Most tokens in one step; sizes the buffers");
  set.Int("seq-slots", &options->seq_slots, 1, kSeqSlotsMax, "sequences", "Sequences open at once");
  set.Int("context-tokens", &options->context_tokens, 0, kContextTokensMax, "tokens",
          "Longest sequence; 0: the model's")
      .ClusterWide();
  set.Int("expert-slots", &options->expert_slots, 0, kExpertsMax, "experts",
          "Experts whose units fit on the device at once, the others wait in host memory; 0: all");
  set.Choice(
      "exchange-alone", &options->exchange_alone, {"on", "off"},
      "Send expert rows through the collective even when this worker is alone, to measure it");
  set.Duration("scheduler-lease-s", &options->scheduler_lease, absl::Seconds(1),
               absl::Milliseconds(kLeaseMsMax),
               "How long a silent scheduler holds this worker while another one asks for it");
}

absl::StatusOr<std::unique_ptr<WorkerHost>> WorkerHost::Load(
    const WorkerHostOptions& options, std::string config_digest, Clock* clock, const Log* log,
    CollectiveFactory* collectives, std::function<void(const absl::Status&)> on_broken) {
  ASSIGN_OR_RETURN(ExecutorOptions executor_options, ToExecutorOptions(options));
  auto state = std::make_unique<State>();
  state->rank = options.rank;
  const absl::Time start = clock->Now();
  ASSIGN_OR_RETURN(state->checkpoint, Checkpoint::Open(options.model));
  executor_options.experts = ExpertsAtStart(state->checkpoint->spec().num_experts, options);
  ASSIGN_OR_RETURN(state->device, MakeDevice(options.device, options.threads));
  ASSIGN_OR_RETURN(state->memory,
                   PlanMemory(state->checkpoint->spec(), *state->device, executor_options));
  LogMemory(state->memory, log);
  RETURN_IF_ERROR(CheckFits(options, state->memory));
  ASSIGN_OR_RETURN(std::unique_ptr<StepExecutor> executor,
                   StepExecutor::Create(*state->checkpoint, state->device.get(), clock,
                                        executor_options, LogProgress(log, clock)));
  const WorkerOptions worker_options{.rank = options.rank,
                                     .incarnation = RandomId(),
                                     .config_digest = std::move(config_digest),
                                     .exchange_alone = options.exchange_alone == "on",
                                     .lease = options.scheduler_lease,
                                     .on_broken = std::move(on_broken)};
  state->collectives = MakeDeviceCollectives(state->device.get());
  if (state->collectives != nullptr) collectives = state->collectives.get();
  if (worker_options.exchange_alone && collectives == nullptr) {
    return absl::InvalidArgumentError("exchange-alone is on, but this worker has no collective");
  }
  const ReadCost cost = state->checkpoint->read_cost();
  log->Info("worker loaded", {{"model_digest", executor->model_digest()},
                              {"numerics_id", executor->numerics_id()},
                              {"device", executor->device_name()},
                              {"incarnation", worker_options.incarnation},
                              {"read_bytes", cost.bytes},
                              {"load_s", absl::ToDoubleSeconds(clock->Now() - start)},
                              {"check_s", absl::ToDoubleSeconds(cost.checking)}});
  state->loop = std::make_unique<WorkerLoop>(
      std::make_unique<Worker>(worker_options, std::move(executor), clock, log, collectives));
  return std::unique_ptr<WorkerHost>(new WorkerHost(std::move(state)));
}

WorkerHost::WorkerHost(std::unique_ptr<State> state) : state_(std::move(state)) {}
WorkerHost::~WorkerHost() = default;

LinkId WorkerHost::holder() const { return state_->loop->holder(); }
LinkId WorkerHost::Attach(Worker::Send send) { return state_->loop->Attach(std::move(send)); }
bool WorkerHost::Submit(LinkId link, ToWorker message) {
  return state_->loop->Submit(link, std::move(message));
}
void WorkerHost::Disconnected(LinkId link) { state_->loop->Disconnected(link); }

absl::Time WorkerHost::last_progress() const { return state_->loop->last_progress(); }
const MemoryPlan& WorkerHost::memory() const { return state_->memory; }
int32_t WorkerHost::rank() const { return state_->rank; }
ResidencyStats WorkerHost::residency() const { return state_->loop->residency(); }
void WorkerHost::Stop() { state_->loop->Stop(); }

}  // namespace pregate
