#include "refactor/refactor_run.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <new>

#include "absl/strings/str_format.h"
#include "common/base/status.h"
#include "refactor/apply.h"
#include "refactor/baselines.h"
#include "refactor/evaluate.h"
#include "refactor/fused_ops.h"
#include "refactor/plan.h"
#include "refactor/progress.h"
#include "refactor/report.h"
#include "refactor/run_inputs.h"
#include "refactor/sample.h"
#include "refactor/task_scores.h"
#include "refactor/tune_state.h"

namespace pregate {
namespace {

constexpr const char* kSplitFile = "split.safetensors";
constexpr const char* kArtifactFile = "artifact.safetensors";
constexpr const char* kTeacher = "teacher";  // the stage and its folder
constexpr uint64_t kArtifactBytesMax = uint64_t{64} << 30;
constexpr double kWidthsDone = 0.1;  // of the time of split, roughly

std::string BaselineStage(const std::string& name) { return absl::StrCat("baseline ", name); }

int64_t PeakMemoryBytes() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return int64_t{used.ru_maxrss} * 1024;
}

// One run over a folder. A stage's function returns false where it was stopped.
class Run {
 public:
  Run(const Checkpoint& dense, const RunText& text, absl::Span<const Task> tasks,
      const RefactorOptions& options, WorkFolder& work, Clock& clock, std::ostream& out)
      : dense_(dense),
        text_(text),
        tasks_(tasks),
        options_(options),
        work_(work),
        clock_(clock),
        out_(out),
        stop_at_(options.time_limit > absl::ZeroDuration() ? clock.Now() + options.time_limit
                                                           : absl::InfiniteFuture()) {}

  absl::Status All();

 private:
  absl::StatusOr<bool> Sample();
  absl::StatusOr<bool> Calibrate();
  absl::StatusOr<bool> Split();
  absl::StatusOr<bool> Tune();
  absl::StatusOr<bool> Evaluate();
  absl::StatusOr<bool> EvaluateTasks(const Artifact& artifact);
  absl::StatusOr<bool> Baselines();
  absl::StatusOr<bool> Baseline(const std::string& name);
  absl::StatusOr<bool> Export();

  // `stage`: "tune", kTeacher or a baseline's.
  absl::StatusOr<bool> TuneExperts(const Artifact& split, const nlohmann::json& inputs,
                                   const TuneOptions& tune, const std::string& stage,
                                   WorkFolder& work);
  absl::StatusOr<const Corpus*> TuningText();
  absl::StatusOr<bool> Teacher();
  absl::StatusOr<WeightDeltas> TeacherDeltas() const;
  absl::StatusOr<Artifact> BaselineExperts(const std::string& name, const nlohmann::json& inputs,
                                           WorkFolder& work);
  absl::StatusOr<bool> OneStage(const std::string& stage);
  absl::Status NoteCost(const std::string& stage, absl::Duration took);
  absl::StatusOr<nlohmann::json> WriteReport();
  absl::StatusOr<nlohmann::json> StageCosts() const;
  absl::StatusOr<nlohmann::json> SampleRecord() const;
  absl::StatusOr<const DenseForward*> Dense();
  StageHooks Hooks(StageProgress& progress);

  const Checkpoint& dense_;
  const RunText& text_;
  const absl::Span<const Task> tasks_;
  const RefactorOptions& options_;
  WorkFolder& work_;
  Clock& clock_;
  std::ostream& out_;
  const absl::Time stop_at_;
  std::unique_ptr<DenseForward> model_;  // while calibrate and split need it
  std::optional<Corpus> with_samples_;   // once something is tuned on it
  std::vector<DomainQuality> quality_;
  nlohmann::json task_scores_ = nlohmann::json::array();  // TaskScores
  nlohmann::json baselines_ = nlohmann::json::object();   // by name: domains, tune
};

absl::StatusOr<const DenseForward*> Run::Dense() {
  if (model_ == nullptr) {
    ASSIGN_OR_RETURN(model_, DenseForward::Load(dense_));
  }
  return model_.get();
}

StageHooks Run::Hooks(StageProgress& progress) {
  return {.stop = [this] { return clock_.Now() >= stop_at_; },
          .progress = [&progress](double done,
                                  const std::string& note) { progress.Update(done, note); }};
}

absl::StatusOr<bool> Run::Sample() {
  if (options_.tune.parent_samples == 0) return true;
  StageProgress progress(out_, clock_, "sample");
  bool begun = false;
  StageHooks hooks = Hooks(progress);
  hooks.progress = [&](double done, const std::string& note) {
    if (!begun) progress.Begin(done);
    begun = true;
    progress.Update(done, note);
  };
  return SampleParent(dense_, text_.tuning, text_.chat_opening, options_.tune,
                      SampleInputs(dense_, text_, options_), work_, clock_, hooks);
}

absl::StatusOr<const Corpus*> Run::TuningText() {
  if (options_.tune.parent_samples == 0) return &text_.tuning;
  if (!with_samples_) {
    ASSIGN_OR_RETURN(with_samples_,
                     WithSamples(text_.tuning, options_.tune, dense_.spec().vocab_size, work_));
  }
  return &*with_samples_;
}

absl::StatusOr<WeightDeltas> Run::TeacherDeltas() const {
  if (options_.tune.teacher_tokens == 0) return WeightDeltas();
  ASSIGN_OR_RETURN(Artifact artifact,
                   ReadArtifact(work_.File(absl::StrCat(kTeacher, "/", kArtifactFile))));
  return std::move(artifact.deltas);
}

// The dense model, tuned as the baseline `parent` is, but on its own number of tokens, half of them the
// domains' text, and without what few bits a weight cost.
absl::StatusOr<bool> Run::Teacher() {
  if (options_.tune.teacher_tokens == 0) return true;
  const nlohmann::json inputs = BaselineTuneInputs(dense_, text_, options_, kTeacher);
  ASSIGN_OR_RETURN(const auto work, WorkFolder::Open(work_.File(kTeacher)));
  ASSIGN_OR_RETURN(const auto record, work->Read("tune.json", inputs));
  if (record) return true;
  TuneOptions tune = options_.tune;
  tune.tokens = tune.teacher_tokens;
  tune.text_share = TuneOptions().text_share;
  tune.artifact_bytes = 0;
  ASSIGN_OR_RETURN(const Artifact split, BaselineExperts("parent", inputs, *work));
  ASSIGN_OR_RETURN(const bool done, TuneExperts(split, inputs, tune, kTeacher, *work));
  if (done) RETURN_IF_ERROR(RemoveTuneState(*work));
  return done;
}

absl::StatusOr<bool> Run::Calibrate() {
  ASSIGN_OR_RETURN(const auto split,
                   work_.Read("split.json", SplitInputs(dense_, text_, options_)));
  if (split) return true;
  const nlohmann::json inputs = CalibrateInputs(dense_, text_, options_);
  ASSIGN_OR_RETURN(const auto record, work_.Read("calibrate.json", inputs));
  const Corpus& corpus = text_.calibration;
  const int before = record && work_.Has("activations.bin") ? record->value("windows", 0) : 0;
  if (before >= corpus.num_windows()) return true;
  ASSIGN_OR_RETURN(const DenseForward* model, Dense());
  StageProgress progress(out_, clock_, "calibrate");
  progress.Begin(static_cast<double>(before) / corpus.num_windows());
  return pregate::Calibrate(*model, dense_.spec(), corpus, inputs, work_, clock_, Hooks(progress));
}

absl::StatusOr<bool> Run::Split() {
  const nlohmann::json inputs = SplitInputs(dense_, text_, options_);
  ASSIGN_OR_RETURN(const auto record, work_.Read("split.json", inputs));
  if (!record) {
    StageProgress progress(out_, clock_, "split");
    progress.Begin(0);
    const StageHooks hooks = Hooks(progress);
    model_.reset();  // what measures widths loads a model of its own
    SplitOptions split = options_.split;
    ASSIGN_OR_RETURN(split.fit.widths, ChooseWidths(dense_, text_.calibration, split.widths,
                                                    options_.tune.seed, [&](double done) {
                                                      hooks.progress(kWidthsDone * done, "widths");
                                                    }));
    ASSIGN_OR_RETURN(const DenseForward* model, Dense());
    ASSIGN_OR_RETURN(const auto log, OpenActivations(work_, dense_.spec(), text_.calibration));
    const StageHooks rest = {.stop = hooks.stop,
                             .progress = [&](double done, const std::string& note) {
                               hooks.progress(kWidthsDone + (1 - kWidthsDone) * done, note);
                             }};
    ASSIGN_OR_RETURN(SplitModel made,
                     pregate::Split(*model, dense_.spec(), text_.calibration, *log, split, rest));
    made.artifact.provenance = Describe(dense_, text_, options_);
    RETURN_IF_ERROR(WriteArtifact(made.artifact, DType::kF32, work_.Draft(kSplitFile)));
    RETURN_IF_ERROR(work_.Publish(kSplitFile));
    RETURN_IF_ERROR(
        work_.Write("split.json", {{"inputs", inputs}, {"one_set", std::move(made.one_set)}}));
  }
  model_.reset();
  RETURN_IF_ERROR(RemoveActivations(work_));
  return true;
}

absl::StatusOr<bool> Run::Tune() {
  const nlohmann::json inputs = TuneInputsOf(dense_, text_, options_);
  ASSIGN_OR_RETURN(const auto record, work_.Read("tune.json", inputs));
  if (record) return true;
  ASSIGN_OR_RETURN(Artifact split, ReadArtifact(work_.File(kSplitFile)));
  split.provenance = Describe(dense_, text_, options_);
  if (options_.tune.tokens == 0) {
    RETURN_IF_ERROR(WriteArtifact(split, DType::kF16, work_.Draft(kArtifactFile)));
    RETURN_IF_ERROR(work_.Publish(kArtifactFile));
    RETURN_IF_ERROR(work_.Write("tune.json", {{"inputs", inputs}, {"steps", 0}}));
    return true;
  }
  return TuneExperts(split, inputs, options_.tune, "tune", work_);
}

absl::StatusOr<bool> Run::TuneExperts(const Artifact& split, const nlohmann::json& inputs,
                                      const TuneOptions& tune, const std::string& stage,
                                      WorkFolder& work) {
  StageProgress progress(out_, clock_, stage);
  bool begun = false;
  RouterTrainOptions router = options_.split.router;
  router.device = options_.tune.device;
  const bool nll_alone = stage == BaselineStage("parent-text");  // hence on text alone
  const Corpus* text = &text_.tuning;
  if (!nll_alone) {
    ASSIGN_OR_RETURN(text, TuningText());
  }
  const int sampled = text->num_windows() - text_.tuning.num_windows();
  // As many windows that the parent wrote as were calibrated on.
  const Corpus router_text =
      WithSomeOfTheLast(text_.calibration, *text, sampled, text_.calibration.num_windows());
  WeightDeltas teacher;
  if (stage != kTeacher && !nll_alone) {
    ASSIGN_OR_RETURN(teacher, TeacherDeltas());
  }
  return pregate::Tune(
      {.dense = dense_,
       .split = split,
       .tuning = *text,
       .router_text = router_text,
       .router = router,
       .inputs = inputs,
       .layer_routers = stage == BaselineStage("layer-router"),
       .sampled_windows = sampled,
       .nll_alone = nll_alone,
       .teacher = teacher.empty() ? nullptr : &teacher},
      tune, work, clock_, [this] { return clock_.Now() >= stop_at_; },
      [&](double done, double loss) {
        if (!begun) progress.Begin(done);
        begun = true;
        progress.Update(done, absl::StrFormat("loss %.4f", loss));
      });
}

absl::StatusOr<bool> Run::Evaluate() {
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work_.File(kArtifactFile)));
  if (text_.held_out.tokens.empty()) return EvaluateTasks(artifact);
  ASSIGN_OR_RETURN(const Artifact split, ReadArtifact(work_.File(kSplitFile)));
  StageProgress progress(out_, clock_, "evaluate");
  progress.Begin(0);
  ASSIGN_OR_RETURN(
      auto quality,
      pregate::Evaluate(dense_, split, artifact, text_.held_out, options_.tune.device,
                        EvaluateInputs(dense_, text_, options_), work_, Hooks(progress)));
  if (!quality) return false;
  quality_ = *std::move(quality);
  return EvaluateTasks(artifact);
}

absl::StatusOr<bool> Run::EvaluateTasks(const Artifact& artifact) {
  if (tasks_.empty()) return true;
  ASSIGN_OR_RETURN(const auto tokenizer, dense_.LoadTokenizer());
  nlohmann::json inputs = TuneInputsOf(dense_, text_, options_);
  inputs["tasks"] = DigestOf(tasks_);
  StageProgress progress(out_, clock_, "tasks");
  progress.Begin(0);
  ASSIGN_OR_RETURN(auto scores,
                   ScoreTasks(dense_, artifact, *tokenizer, tasks_, options_.corpus.window_tokens,
                              options_.tune.device, inputs, work_, Hooks(progress)));
  if (!scores) return false;
  task_scores_ = *std::move(scores);
  return true;
}

absl::StatusOr<bool> Run::Baselines() {
  for (const std::string& name : options_.baselines) {
    const absl::Time begin = clock_.Now();
    ASSIGN_OR_RETURN(const bool done, Baseline(name));
    RETURN_IF_ERROR(NoteCost(BaselineStage(name), clock_.Now() - begin));
    if (!done) return false;
  }
  return true;
}

// The neurons that the loop begins with, and their scales.
absl::StatusOr<Artifact> Run::BaselineExperts(const std::string& name, const nlohmann::json& inputs,
                                              WorkFolder& work) {
  ASSIGN_OR_RETURN(const auto record, work.Read("split.json", inputs));
  if (record) return ReadArtifact(work.File(kSplitFile));
  ASSIGN_OR_RETURN(Artifact artifact, ReadArtifact(work_.File(kSplitFile)));
  artifact.provenance = Describe(dense_, text_, options_);
  if (name != "layer-router") {
    ASSIGN_OR_RETURN(const auto split,
                     work_.Read("split.json", SplitInputs(dense_, text_, options_)));
    ASSIGN_OR_RETURN(const auto one_set, OneSetFromRecord(split.value_or(nlohmann::json::object()),
                                                          work_.File("split.json"), dense_.spec()));
    std::vector<LayerNeurons> neurons =
        BaselineNeurons(name, artifact, one_set, dense_.spec().intermediate, options_.tune.seed);
    std::vector<LayerScales> scales;
    if (name != "parent" && name != "parent-text") {
      ASSIGN_OR_RETURN(const DenseForward* model, Dense());
      StageProgress progress(out_, clock_, absl::StrCat("baseline ", name, ", scales"));
      progress.Begin(0);
      ASSIGN_OR_RETURN(scales,
                       FitScales(*model, dense_.spec(), text_.calibration, neurons, options_.split,
                                 [&](double done) { progress.Update(done); }));
    }
    model_.reset();
    artifact.layers = BaselineLayers(std::move(neurons), std::move(scales),
                                     WidthStep(dense_.spec().intermediate));
    artifact.provenance.method =
        absl::StrCat("baseline ", name, " of: ", artifact.provenance.method);
  }
  RETURN_IF_ERROR(WriteArtifact(artifact, DType::kF32, work.Draft(kSplitFile)));
  RETURN_IF_ERROR(work.Publish(kSplitFile));
  RETURN_IF_ERROR(work.Write("split.json", {{"inputs", inputs}}));
  return artifact;
}

absl::StatusOr<bool> Run::Baseline(const std::string& name) {
  const nlohmann::json inputs = BaselineTuneInputs(dense_, text_, options_, name);
  const bool layer_routers = name == "layer-router";
  const std::string stage = BaselineStage(name);
  ASSIGN_OR_RETURN(const auto work, WorkFolder::Open(work_.File("baseline-" + name)));
  ASSIGN_OR_RETURN(auto tuned, work->Read("tune.json", inputs));
  if (!tuned) {
    ASSIGN_OR_RETURN(const Artifact split, BaselineExperts(name, inputs, *work));
    ASSIGN_OR_RETURN(const bool done, TuneExperts(split, inputs, options_.tune, stage, *work));
    if (!done) return false;
    ASSIGN_OR_RETURN(tuned, work->Read("tune.json", inputs));
  }
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work->File(kArtifactFile)));
  StageProgress progress(out_, clock_, stage + ", held-out text");
  progress.Begin(0);
  ASSIGN_OR_RETURN(
      const auto quality,
      EvaluateBaseline(dense_, artifact, layer_routers, text_.held_out, options_.tune.device,
                       BaselineInputs(dense_, text_, options_, name), *work, Hooks(progress)));
  if (!quality) return false;
  nlohmann::json& row = baselines_[name] = *std::move(tuned);
  row.erase("inputs");
  for (const BaselineQuality& domain : *quality) row["domains"].push_back(ToJson(domain));
  RETURN_IF_ERROR(RemoveTuneState(*work));
  return true;
}

absl::StatusOr<bool> Run::Export() {
  const nlohmann::json inputs = TuneInputsOf(dense_, text_, options_);
  ASSIGN_OR_RETURN(const auto record, work_.Read("export.json", inputs));
  if (!record) {
    RETURN_IF_ERROR(ApplyArtifact(dense_, work_.File(kArtifactFile), options_.out, {}));
    RETURN_IF_ERROR(work_.Write("export.json", {{"inputs", inputs}}));
  }
  if (!options_.artifact_path.empty()) {
    ASSIGN_OR_RETURN(const std::string bytes,
                     ReadInput(work_.File(kArtifactFile), kArtifactBytesMax));
    RETURN_IF_ERROR(WriteOutput(options_.artifact_path, bytes));
  }
  return true;
}

absl::StatusOr<bool> Run::OneStage(const std::string& stage) {
  if (stage == "sample") return Sample();
  if (stage == "calibrate") return Calibrate();
  if (stage == "split") return Split();
  if (stage == kTeacher) return Teacher();
  if (stage == "tune") return Tune();
  if (stage == "evaluate") return Evaluate();
  if (stage == "baselines") return Baselines();
  return Export();
}

absl::StatusOr<nlohmann::json> Run::StageCosts() const {
  ASSIGN_OR_RETURN(auto costs, work_.Read("stages.json", CalibrateInputs(dense_, text_, options_)));
  return costs.value_or(
      nlohmann::json{{"inputs", CalibrateInputs(dense_, text_, options_)}, {"stages", {}}});
}

// Adds up over processes; what a kill cut off is not counted.
absl::Status Run::NoteCost(const std::string& stage, absl::Duration took) {
  ASSIGN_OR_RETURN(nlohmann::json costs, StageCosts());
  nlohmann::json& cost = costs["stages"][stage];
  if (cost.is_null()) cost = {{"seconds", 0.0}, {"peak_memory_bytes", int64_t{0}}};
  cost["seconds"] = cost["seconds"].get<double>() + absl::ToDoubleSeconds(took);
  cost["peak_memory_bytes"] = std::max(cost["peak_memory_bytes"].get<int64_t>(), PeakMemoryBytes());
  if (const int64_t card = PeakCardBytes(); card > 0) {
    cost["peak_card_bytes"] = std::max(cost.value("peak_card_bytes", int64_t{0}), card);
  }
  return work_.Write("stages.json", costs);
}

// What the stage says of itself; null where it has not run.
absl::StatusOr<nlohmann::json> Run::SampleRecord() const {
  if (options_.tune.parent_samples == 0) return nlohmann::json();
  ASSIGN_OR_RETURN(auto record, work_.Read("sample.json", SampleInputs(dense_, text_, options_)));
  if (!record) return nlohmann::json();
  record->erase("inputs");
  return *std::move(record);
}

absl::StatusOr<nlohmann::json> Run::WriteReport() {
  ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work_.File(kArtifactFile)));
  ASSIGN_OR_RETURN(const nlohmann::json costs, StageCosts());
  ASSIGN_OR_RETURN(const auto tune, work_.Read("tune.json", TuneInputsOf(dense_, text_, options_)));
  nlohmann::json tuned = tune.value_or(nlohmann::json::object());
  tuned.erase("inputs");
  ASSIGN_OR_RETURN(nlohmann::json samples, SampleRecord());
  nlohmann::json losses = nlohmann::json::array();
  ASSIGN_OR_RETURN(const std::vector<LossRow> rows, ReadLosses(work_));
  for (const LossRow& row : rows) losses.push_back(ToJson(row));
  nlohmann::json report = ReportJson({.command = options_.command,
                                      .inputs = EvaluateInputs(dense_, text_, options_),
                                      .stages = costs["stages"],
                                      .artifact = &artifact,
                                      .intermediate = dense_.spec().intermediate,
                                      .artifact_file_bytes = static_cast<int64_t>(
                                          std::filesystem::file_size(work_.File(kArtifactFile))),
                                      .tune = std::move(tuned),
                                      .samples = std::move(samples),
                                      .domains = quality_,
                                      .tasks = task_scores_,
                                      .baselines = baselines_});
  RETURN_IF_ERROR(work_.Write("report.json", report));
  RETURN_IF_ERROR(WriteOutput(work_.Draft("report.html"), ReportHtml(report, losses)));
  RETURN_IF_ERROR(work_.Publish("report.html"));
  return report;
}

absl::Status Run::All() {
  for (const std::string stage : kStages) {
    const absl::Time begin = clock_.Now();
    ASSIGN_OR_RETURN(const bool done, OneStage(stage));
    const bool wanted = (stage != "sample" || options_.tune.parent_samples > 0) &&
                        (stage != kTeacher || options_.tune.teacher_tokens > 0);
    if (stage != "baselines" && wanted) RETURN_IF_ERROR(NoteCost(stage, clock_.Now() - begin));
    if (!done) {
      out_ << stage << " stopped at the time limit; the same command goes on from " << work_.path()
           << "\n";
      return absl::OkStatus();
    }
    if (stage == "evaluate" || stage == "baselines") {
      RETURN_IF_ERROR(WriteReport().status());
    }
    if (stage == options_.until && stage != "export") {
      out_ << "done until " << stage << "; the same command without --until goes on from "
           << work_.path() << "\n";
      return absl::OkStatus();
    }
  }
  ASSIGN_OR_RETURN(const nlohmann::json report, WriteReport());
  // What only a run that goes on needs.
  RETURN_IF_ERROR(RemoveTuneState(work_));
  PrintReport(report, out_);
  out_ << "wrote " << options_.out << "; report in " << work_.path() << "\n";
  return absl::OkStatus();
}

absl::Status CheckOut(const std::string& out, const WorkFolder& work) {
  std::error_code error;
  const bool used = std::filesystem::exists(out, error) && !std::filesystem::is_empty(out, error);
  if (!used || work.Has("export.json")) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat("out ", out, ": is there and not empty"));
}

absl::Status OutOfMemory(const WorkFolder& work, const std::string& what) {
  return absl::ResourceExhaustedError(
      absl::StrCat(what, "; the last good state stays in ", work.path(),
                   ", from which the same command goes on with a smaller --micro-batch"));
}

}  // namespace

absl::Status RunRefactor(const Checkpoint& dense, const RefactorOptions& options, Clock& clock,
                         std::ostream& out) {
  RETURN_IF_ERROR(CheckWidths(options.split.widths, dense.spec()));
  ASSIGN_OR_RETURN(const RunText text, ReadRunText(dense, options));
  std::vector<Task> tasks;
  if (!options.tasks_dir.empty()) {
    ASSIGN_OR_RETURN(tasks, ReadTasks(options.tasks_dir, options.task_items));
  }
  out << absl::StrFormat("%d domains, %d of %d tokens to calibrate on, %d held out\n",
                         text.calibration.domains.size(), text.calibration.tokens.size(),
                         text.calibration.tokens_in_text, text.held_out.tokens.size());
  for (size_t d = 0; d < text.dropped.size(); ++d) {
    if (text.dropped[d] < 0.01) continue;
    out << absl::StrFormat("%s: %.0f%% of its text are lines that stood before, and are left out\n",
                           text.calibration.domains[d], 100 * text.dropped[d]);
  }
  if (options.plan) {
    ASSIGN_OR_RETURN(const auto plan, PlanRun(dense, text, options, clock));
    PrintPlan(plan, out);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const auto work, WorkFolder::Open(options.work_dir));
  RETURN_IF_ERROR(CheckOut(options.out, *work));
  // LibTorch throws; a batch that is too large for the memory is the user's to mend.
  try {
    return Run(dense, text, tasks, options, *work, clock, out).All();
  } catch (const c10::OutOfMemoryError& error) {
    return OutOfMemory(*work, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    if (what.find("can't allocate memory") != std::string::npos) return OutOfMemory(*work, what);
    return absl::InternalError(
        absl::StrCat("LibTorch: ", what, "; the last good state stays in ", work->path()));
  } catch (const std::bad_alloc&) {
    return OutOfMemory(*work, "no memory left");
  }
}

}  // namespace pregate
