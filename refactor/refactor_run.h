// Dense → MoE, all stages, each of which goes on where a kill left it:
//
//   text ─▶ sample ─▶ the parent's own text ────────────────────────────────┐
//   text ─▶ calibrate ─▶ activations ─▶ split ─▶ neuron sets, scales, router ─▶ tune ─▶ artifact
//   text ─▶ teacher: the parent, tuned on it ──────────────────────────────▶ tune
//   artifact ─▶ evaluate ─▶ report      artifact ─▶ export ─▶ checkpoint
//   split ─▶ baselines: tuned and scored each in a folder of its own ─▶ report
//
// Their state lies in a folder (work_folder.h), whose records say what each was asked for.
#pragma once

#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/corpus.h"
#include "refactor/split.h"
#include "refactor/tune.h"

namespace pregate {

struct RefactorOptions {
  std::string corpus_dir;
  std::string work_dir;       // empty: OUT.work
  std::string out;            // the checkpoint
  std::string artifact_path;  // where a copy of the artifact goes; empty: nowhere
  CorpusOptions corpus;
  SplitOptions split;
  TuneOptions tune;
  int eval_windows = 8;                // of each domain; 0: no evaluation
  std::string tasks_dir;               // zero-shot tasks (task_scores.h); empty: none
  int task_items = 0;                  // of each; 0: all
  std::vector<std::string> baselines;  // of kBaselines, in their order
  std::string until = "export";        // the last stage to run
  absl::Duration time_limit;           // 0: none; stops between two pieces of work, and saves
  bool plan = false;                   // say what it will take, and do nothing
  std::string commit;                  // of this program, for the provenance
  std::string command;                 // the options that were given, for the report
};

inline constexpr const char* kStages[] = {"sample", "calibrate", "split",     "teacher",
                                          "tune",   "evaluate",  "baselines", "export"};
inline constexpr const char* kBaselines[] = {"parent", "parent-text", "dense", "random",
                                             "layer-router"};

// Threads are LibTorch's and the fit's. Reports on `out`. OK where the time limit or `until` ended
// it too, which `out` says.
absl::Status RunRefactor(const Checkpoint& dense, const RefactorOptions& options, Clock& clock,
                         std::ostream& out);

}  // namespace pregate
