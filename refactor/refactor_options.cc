#include "refactor/refactor_options.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <thread>

#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/config/values.h"

namespace pregate {
namespace {

// The names of all, for OnlyWith.
std::vector<std::string> DeclareCutting(OptionSet& set, RefactorFlags* flags) {
  RefactorOptions& run = flags->run;
  RouterTrainOptions& router = run.split.router;
  set.Group("Cutting a model into experts");
  set.String("corpus", &run.corpus_dir,
             "directory with a sub-folder or .txt file for each domain; each gets an expert");
  set.String("artifact", &run.artifact_path,
             "also write what differs from the dense model to this file");
  set.Double("keep", &run.split.widths.keep, 0, 1, "of the neurons", "kept by each expert");
  set.Choice("layer-widths", &run.split.widths.by_layer, {"worth", "even"},
             "more where the model's output depends on more neurons, or the same in all layers");
  set.Strings("keep-layers", &flags->keep_layers,
              "instead of --keep and --layer-widths, a share for each layer");
  set.OptionalUint64("seed", &flags->seed, "of weights and batches (0)");
  set.Int("windows", &run.corpus.windows_per_domain, 1, 1 << 20, "windows a domain",
          "calibration text taken, evenly spread; time is about proportional");
  set.Count("window-tokens", &run.corpus.window_tokens, 16, 8192, "tokens", "context of a window");
  set.Double("hold-out", &run.corpus.hold_out, 0, 0.9, "of each domain",
             "the last part, which is evaluated on and else never used");
  set.Choice("repeats", &run.corpus.repeats, {"drop", "refuse", "keep"},
             "lines that stood before, which would make what is held out known text");
  set.Double("blend", &run.split.fit.blend, 0, 1, "",
             "how far experts specialise on the tokens that suit them, not their domain");
  set.Int("rounds", &run.split.fit.rounds, 0, 20, "rounds", "of assigning tokens to experts");
  set.Int("refit-windows", &run.split.refit_windows_per_domain, 0, 1 << 20, "windows a domain",
          "for the scales of down_proj's columns; 0 leaves them as they are");
  set.Int("router-hidden", &router.hidden, 8, 4096, "channels", "width of the router");
  set.Int("router-steps", &router.steps, 1, 1 << 20, "steps", "of training it");
  set.Int("router-batch", &router.batch_windows, 1, 4096, "windows", "in a step");
  set.Double("router-temperature", &router.temperature, 0.01, 100, "",
             "of its targets; less makes them surer");
  set.Double("persistence", &router.persistence, 0, 1, "",
             "weight of the token before in a token's target; more means fewer switches");
  set.Int("threads", &flags->threads, 0, 1024, "threads", "to compute with; 0: all cores");
  return {"artifact",      "keep",         "layer-widths",  "keep-layers",
          "seed",          "windows",      "window-tokens", "hold-out",
          "repeats",       "blend",        "rounds",        "refit-windows",
          "router-hidden", "router-steps", "router-batch",  "router-temperature",
          "persistence",   "threads"};
}

std::vector<std::string> DeclareTuning(OptionSet& set, RefactorFlags* flags) {
  TuneOptions& tune = flags->run.tune;
  std::vector<std::string> methods;
  for (const TuneMethod& method : TuneMethods()) methods.push_back(method.name);
  set.Group("Tuning the experts on the text");
  set.Count("tokens", &tune.tokens, 0, 2'000'000'000, "tokens",
            "of the text to tune on, again and again; 0: nothing is tuned")
      .Environment("PREGATE_TUNE_TOKENS");
  set.Count("parent-samples", &tune.parent_samples, 0, 2'000'000'000, "tokens",
            "that the dense model writes, to be tuned on beside the text; 0: none");
  set.Double("chat-share", &tune.chat_share, 0, 1, "of what the dense model writes",
             "that are conversations, where it has a chat template");
  set.Double("text-share", &tune.text_share, 0.01, 1, "of the windows tuned on",
             "that are the domains' text; the others are what the dense model wrote");
  set.Choice("method", &tune.method, methods,
             "of cutting and tuning; readme is the paper's, and decides --blend, --rounds, "
             "--refit-windows, --persistence and the router's options itself");
  set.Choice("router-loss", &flags->router_loss, {"code", "text"},
             "of --method readme: as the paper's code has it, or its text");
  set.Choice("device", &tune.device, {"cpu", "cuda"}, "tunes and evaluates");
  set.Int("batch", &tune.batch_windows, 1, 4096, "windows", "in a step");
  set.Int("micro-batch", &tune.micro_windows, 0, 4096, "windows",
          "computed at a time, by memory; 0: the batch on a card, 1024 tokens on a CPU");
  set.Double(
      "text-loss", &flags->text_loss, -1, 1, "",
      "weight of the text's own loss where it is text that is tuned on; the divergence from the "
      "dense model has the rest; -1: the method's");
  set.Count(
      "teacher-tokens", &tune.teacher_tokens, 0, 2'000'000'000, "tokens",
      "that the dense model is tuned on first; on the domains' text the experts are held against "
      "it then, and not against the dense model as it is; 0: none");
  set.Double("rate", &tune.rate, 0, 1, "", "the optimizer's peak; 0: the method's");
  set.Choice("optimizer", &tune.optimizer, {"adamw", "muon"},
             "of matrices; vectors are AdamW's either way");
  set.Int("tune-rounds", &tune.rounds, 0, 100, "rounds",
          "of experts, with a router before all but the first; 0: the method's");
  set.Switch("tune-embeddings", &tune.embeddings, "tune embedding and head too");
  set.Choice("router-target", &tune.router_target, {"loss", "energy"},
             "what later routers learn: each expert's loss, or nothing new");
  set.Double("router-memory", &tune.router_memory, 0, 0.99, "",
             "part of a token's loss that is the mean of those before");
  set.Bytes("artifact-bytes", &tune.artifact_bytes, 0, int64_t{1} << 40,
            "for what tuning changes, as codes of few bits a weight; 0: of 8 bits");
  set.Double(
      "coded-share", &tune.coded_share, 0, 1, "of the steps",
      "the last, which tune what few bits a weight will store; 0: they are rounded at the end");
  return {"text-loss",      "text-share",    "coded-share",    "chat-share",    "tokens",
          "parent-samples", "method",        "router-loss",    "device",        "optimizer",
          "batch",          "micro-batch",   "rate",           "tune-rounds",   "tune-embeddings",
          "router-target",  "router-memory", "artifact-bytes", "teacher-tokens"};
}

std::vector<std::string> DeclareRunning(OptionSet& set, RefactorFlags* flags) {
  RefactorOptions& run = flags->run;
  set.Group("The run");
  set.String("work", &run.work_dir,
             "folder of its state and report, from which the same command goes on (OUT.work)");
  set.Int("eval-windows", &run.eval_windows, 0, 1 << 20, "windows a domain",
          "of held-out text for the report; 0: none");
  set.String(
      "tasks", &run.tasks_dir,
      "folder of zero-shot tasks (.jsonl, as `pregate eval task` takes them) for the report");
  set.Int("task-items", &run.task_items, 0, 1 << 30, "items", "of each task; 0: all");
  set.Strings("baselines", &run.baselines,
              absl::StrCat("models to hold the result against: ", absl::StrJoin(kBaselines, ", "),
                           ", or all; each is tuned for as long as the result was"));
  set.Choice("until", &run.until, {std::begin(kStages), std::end(kStages)},
             "the last stage to run");
  set.Duration("time-limit-s", &run.time_limit, absl::ZeroDuration(), absl::Hours(1000),
               "stop and save after this long; 0: no limit");
  set.Duration("save-every-s", &run.tune.save_every, absl::ZeroDuration(), absl::Hours(24),
               "how much tuning a kill may cost");
  set.Switch("plan", &run.plan, "print time, memory and disk of each stage, and do nothing");
  return {"work",  "eval-windows", "tasks",        "task-items", "baselines",
          "until", "time-limit-s", "save-every-s", "plan"};
}

// In the order of kBaselines, each once; "all" is every one.
absl::StatusOr<std::vector<std::string>> CompleteBaselines(const std::vector<std::string>& names) {
  const auto begin = std::begin(kBaselines), end = std::end(kBaselines);
  for (const std::string& name : names) {
    if (name == "all" || std::find(begin, end, name) != end) continue;
    return absl::InvalidArgumentError(absl::StrCat("--baselines: '", name, "' is not one of ",
                                                   absl::StrJoin(kBaselines, ", "), ", all"));
  }
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  std::vector<std::string> out;
  std::copy_if(begin, end, std::back_inserter(out),
               [&](const std::string& name) { return has("all") || has(name); });
  return out;
}

// What the paper's method decides (docs/PAPER.md, "1. From a dense model to experts"): a quarter as many router tokens as
// experts' in steps of as many sequences, half as many as theirs.
void SetUpAsPaper(RefactorFlags* flags) {
  RefactorOptions& run = flags->run;
  run.split.as_paper = true;
  run.tune.optimizer = "adamw";
  run.tune.teacher_tokens = 0;
  run.split.widths.by_layer = "even";
  run.split.fit.rounds = 0;
  run.split.refit_windows_per_domain = 0;
  RouterTrainOptions& router = run.split.router;
  router.hidden = 512;
  router.intermediate = 512;
  router.persistence = 0;
  router.adam_alone = true;
  router.adam_rate = 5e-4;
  router.cycles = 8;
  router.mixed_loss = flags->router_loss == "code";
  if (run.tune.tokens == 0) return;
  router.batch_windows = std::max(1, run.tune.batch_windows / 2);
  const int64_t step_tokens = int64_t{router.batch_windows} * run.corpus.window_tokens;
  router.steps =
      static_cast<int>(std::max<int64_t>(router.cycles, run.tune.tokens / 4 / step_tokens));
}

absl::Status ReadKeepLayers(RefactorFlags* flags) {
  std::vector<double>& keep = flags->run.split.widths.keep_layers;
  keep.clear();
  for (const std::string& text : flags->keep_layers) {
    const absl::StatusOr<double> share = ParseDouble(text);
    if (!share.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--keep-layers: layer ", keep.size(), ": ", share.status().message()));
    }
    keep.push_back(*share);
  }
  return absl::OkStatus();
}

absl::Status CheckSamples(const TuneOptions& tune) {
  if (tune.teacher_tokens > 0 && tune.tokens == 0) {
    return absl::InvalidArgumentError(
        "--teacher-tokens make a teacher for what is tuned: give --tokens, or none of them");
  }
  if (tune.parent_samples == 0) return absl::OkStatus();
  if (tune.tokens == 0) {
    return absl::InvalidArgumentError(
        "--parent-samples are there to be tuned on: give --tokens, or none of them");
  }
  return absl::OkStatus();
}

absl::Status CheckBaselines(const RefactorOptions& run) {
  if (run.baselines.empty()) return absl::OkStatus();
  if (run.tune.tokens == 0) {
    return absl::InvalidArgumentError(
        "--baselines are tuned as the result is: give --tokens, or none of them");
  }
  const bool evaluated = run.eval_windows > 0 && run.corpus.hold_out > 0;
  if (!evaluated && (run.until == "baselines" || run.until == "export")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--baselines are measured on held-out text: --eval-windows and --hold-out must not be 0, "
        "they are ",
        run.eval_windows, " and ", run.corpus.hold_out));
  }
  const bool random =
      std::find(run.baselines.begin(), run.baselines.end(), "random") != run.baselines.end();
  if (random && run.tune.router_target == "energy") {
    return absl::InvalidArgumentError(
        "--baselines random needs --router-target loss: the first router, which energy keeps, is "
        "of "
        "the result's own neurons");
  }
  return absl::OkStatus();
}

}  // namespace

void DeclareRefactorOptions(OptionSet& set, RefactorFlags* flags) {
  set.String("dense", &flags->dense, "dense model: pregate or HF directory, or GGUF file")
      .Required();
  set.String("out", &flags->run.out, "directory of the new checkpoint").Required();
  set.Group("Rebuilding an earlier run's result");
  set.String("apply", &flags->apply, "artifact written by --artifact");
  set.Switch("force", &flags->force, "accept an artifact made from another dense model");
  set.Switch("json", &flags->as_json, "print one JSON object");
  std::vector<std::string> of_runs = DeclareCutting(set, flags);
  for (const auto& names : {DeclareTuning(set, flags), DeclareRunning(set, flags)}) {
    of_runs.insert(of_runs.end(), names.begin(), names.end());
  }
  set.Alternatives({"corpus", "apply"});
  set.OnlyWith("apply", {"force", "json"});
  set.OnlyWith("corpus", of_runs);
}

void DeclareRefactorRunOptions(OptionSet& set, RefactorFlags* flags) {
  set.String("dense", &flags->dense, "dense model: pregate or HF directory, or GGUF file")
      .Required();
  set.String("out", &flags->run.out, "directory of the new checkpoint").Required();
  DeclareCutting(set, flags);
  DeclareTuning(set, flags);
  DeclareRunning(set, flags);
}

absl::Status CompleteRunOptions(RefactorFlags* flags, const std::string& command) {
  RefactorOptions& run = flags->run;
  RETURN_IF_ERROR(ReadKeepLayers(flags));
  if (flags->text_loss >= 0) run.tune.text_loss = flags->text_loss;
  if (run.corpus_dir.empty()) return absl::InvalidArgumentError("--corpus is required");
  if (flags->threads == 0) flags->threads = std::max(1u, std::thread::hardware_concurrency());
  run.split.fit.num_threads = flags->threads;
  run.split.router.seed = run.tune.seed = flags->seed.value_or(0);
  std::filesystem::path out = std::filesystem::path(run.out).lexically_normal();
  if (!out.has_filename()) out = out.parent_path();  // a trailing slash
  if (run.work_dir.empty()) run.work_dir = out.string() + ".work";
  run.command = command;
  ASSIGN_OR_RETURN(const TuneMethod method, FindTuneMethod(run.tune.method));
  if (method.as_paper) SetUpAsPaper(flags);
  ASSIGN_OR_RETURN(run.baselines, CompleteBaselines(run.baselines));
  RETURN_IF_ERROR(CheckSamples(run.tune));
  RETURN_IF_ERROR(CheckBaselines(run));
  return absl::OkStatus();
}

}  // namespace pregate
