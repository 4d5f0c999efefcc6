#include <thread>
#include <utility>

#include "absl/synchronization/notification.h"
#include "cli/generator.h"
#include "cli/local_links.h"
#include "cli/local_services.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/model/tokenizer/tokenizer.h"
#include "scheduler_service/engine/generations.h"
#include "scheduler_service/engine/mailbox_inbox.h"
#include "scheduler_service/engine/scheduler_engine.h"

namespace pregate::cli {
namespace {

// Collects one generation on the engine's thread; the caller's thread reads it after Wait.
class Collector {
 public:
  Collector(OnText on_text, const Tokenizer* tokenizer)
      : on_text_(std::move(on_text)), tokenizer_(*tokenizer) {}

  void Take(const StartInfo& info) {
    outcome_.seed = info.seed;
    outcome_.prompt_tokens = info.prompt_tokens;
    outcome_.prompt_routes = info.prompt_routes;
  }
  void Take(const PromptOut& out) { AddLogprobs(out.logprobs, &outcome_.prompt_logprobs); }
  void Take(const TokensOut& out) {
    timer_.Add(out.tokens.size());
    GenerateChoice& choice = ChoiceOf(&outcome_, out.index);
    choice.ids.insert(choice.ids.end(), out.tokens.begin(), out.tokens.end());
    choice.routes.insert(choice.routes.end(), out.routes.begin(), out.routes.end());
    choice.text += out.text;
    AddLogprobs(out.logprobs, &choice.logprobs);
    if (out.index == 0) on_text_(out.text);
  }
  void Take(const ChoiceDone& done) {
    ChoiceOf(&outcome_, done.index).finish_reason = FinishReasonName(done.reason);
  }
  void Take(const DoneInfo& info) {
    status_ = info.status;
    outcome_.finish_reason = FinishReasonName(info.reason);
    outcome_.generated_tokens = info.generated_tokens;
    outcome_.cached_tokens = info.cached_tokens;
    outcome_.draft_tokens = info.draft_tokens;
    outcome_.accepted_tokens = info.accepted_tokens;
    timer_.Report(&outcome_);
    done_.Notify();
  }

  absl::StatusOr<GenerateOutcome> Wait() {
    done_.WaitForNotification();
    if (!status_.ok()) return status_;
    return outcome_;
  }

 private:
  void AddLogprobs(const std::vector<std::vector<TokenLogprob>>& from,
                   std::vector<TokenProbabilities>* to) const {
    for (const std::vector<TokenLogprob>& logprobs : from) {
      TokenProbabilities& added = to->emplace_back();
      for (const TokenLogprob& one : logprobs) {
        added.push_back({one.token, one.logprob, std::string(tokenizer_.TokenBytes(one.token))});
      }
    }
  }

  const OnText on_text_;
  const Tokenizer& tokenizer_;
  TokenTimer timer_;
  GenerateOutcome outcome_;
  absl::Status status_;
  absl::Notification done_;
};

class LocalGenerator final : public Generator {
 public:
  static absl::StatusOr<std::unique_ptr<Generator>> Start(const LocalOptions& options) {
    ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::Open(options.model));
    auto generator = std::unique_ptr<LocalGenerator>(new LocalGenerator());
    ASSIGN_OR_RETURN(generator->tokenizer_, checkpoint->LoadTokenizer());
    WorkerOptions worker;
    worker.model = options.model;
    worker.dtype = options.dtype;
    worker.threads = options.threads;
    worker.kv_cache_bytes = kLocalKvCacheBytes;
    worker.expert_slots = options.expert_slots;
    ASSIGN_OR_RETURN(
        generator->services_,
        StartLocalServices(worker, &generator->clock_, &generator->registry_, &generator->log_));
    generator->vocab_size_ = checkpoint->spec().vocab_size;
    generator->StartEngine(checkpoint->digest());
    RETURN_IF_ERROR(generator->AwaitReady());
    return generator;
  }

  ~LocalGenerator() override {
    if (!engine_thread_.joinable()) return;
    inbox_.Push(DrainEvent{});
    engine_thread_.join();
  }

  absl::StatusOr<GenerateOutcome> Generate(const GenerateJob& job, const OnText& on_text) override {
    GenerateRequest request;
    if (const std::vector<ChatMessage> messages = Conversation(job); !messages.empty()) {
      ASSIGN_OR_RETURN(request.prompt, tokenizer_->ApplyChatTemplate(messages, true));
    } else {
      request.prompt = tokenizer_->EncodePrompt(job.prompt);
    }
    if (request.prompt.empty()) return absl::InvalidArgumentError("--prompt: it has no tokens");
    request.sampling = job.sampling;
    request.logit_bias = job.logit_bias;
    request.seed = job.seed.value_or(RandomId());
    request.max_tokens = job.max_tokens;
    request.min_tokens = job.min_tokens;
    request.stop_strings = job.stop_strings;
    request.logprobs = job.logprobs;
    request.prompt_logprobs = job.prompt_logprobs;
    request.n = job.n;
    request.best_of = job.best_of;
    request.ignore_eos = job.ignore_eos;
    request.no_drafts = job.no_drafts;
    if (job.constraint) {
      ASSIGN_OR_RETURN(request.grammar, CompileConstraint(*job.constraint, trie()));
    }
    const std::vector<TokenId> prompt = request.prompt;
    const auto collector = std::make_shared<Collector>(on_text, tokenizer_.get());
    const auto generations = std::make_shared<Generations>(&clients_, SendTo(collector));
    if (!generations->Submit(std::move(request))) {
      return absl::InternalError("the scheduler's inbox is full");
    }
    ASSIGN_OR_RETURN(GenerateOutcome outcome, collector->Wait());
    if (job.echo) {
      outcome.prompt_ids = prompt;
      outcome.prompt_text = job.prompt.empty() ? tokenizer_->Decode(prompt) : job.prompt;
    }
    return outcome;
  }

 private:
  static constexpr size_t kInboxEvents = 1024;
  static constexpr absl::Duration kReadyWait = absl::Seconds(30);

  LocalGenerator() : inbox_(kInboxEvents, &clock_), random_(RandomId()) {}

  void StartEngine(const std::string& model_digest) {
    worker_link_ = MakeLocalWorkerLink(0, services_.workers[0].engine.get(), push_);
    if (services_.router) router_link_ = MakeLocalRouterLink(services_.router.get(), push_);
    EngineOptions options;
    options.scheduler_id = "generate";
    options.model_digest = model_digest;
    EngineParts parts;
    parts.clock = &clock_;
    parts.inbox = &inbox_;
    parts.router = router_link_.get();
    parts.workers = {worker_link_.get()};
    parts.tokenizer = tokenizer_.get();
    parts.random = &random_;
    parts.observer = &observer_;
    engine_ = std::make_unique<SchedulerEngine>(options, parts);
    engine_thread_ = std::thread([this] { engine_->Run(); });
  }

  std::shared_ptr<const TokenTrie> trie() {
    if (trie_ == nullptr) trie_ = std::make_shared<TokenTrie>(*tokenizer_, vocab_size_);
    return trie_;
  }

  // The engine refuses requests until the worker has attached to it.
  absl::Status AwaitReady() {
    const absl::Time deadline = clock_.Now() + kReadyWait;
    const absl::Duration age_max = absl::Milliseconds(kLoopHeartbeatMsMax);
    while (!engine_->health().Ready(clock_.Now(), age_max)) {
      if (clock_.Now() > deadline) {
        return absl::UnavailableError(
            absl::StrCat("the worker did not attach within ", absl::FormatDuration(kReadyWait)));
      }
      absl::SleepFor(absl::Milliseconds(1));
    }
    return absl::OkStatus();
  }

  SystemClock clock_;
  Log log_{"worker", {.level = "warn"}};
  MetricsRegistry registry_{"local"};
  MailboxInbox inbox_;
  const PushEvent push_ = [this](EngineEvent event) { return inbox_.Push(std::move(event)); };
  SchedulerPeer clients_{push_};
  scheduler::SplitMix64 random_;
  SchedulerObserver observer_;
  std::unique_ptr<Tokenizer> tokenizer_;
  int vocab_size_ = 0;
  std::shared_ptr<const TokenTrie> trie_;  // once a constraint has asked for it
  LocalServices services_;
  std::unique_ptr<WorkerLink> worker_link_;
  std::unique_ptr<RouterLink> router_link_;
  std::unique_ptr<SchedulerEngine> engine_;
  std::thread engine_thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Generator>> MakeLocalGenerator(const LocalOptions& options) {
  return LocalGenerator::Start(options);
}

}  // namespace pregate::cli
