#include "refactor/refactor_options.h"

namespace pregate {
namespace {

void DeclareTrainingOptions(OptionSet& set, RefactorFlags* flags) {
  RefactorOptions& run = flags->run;
  set.Group("Cutting a model into experts");
  set.String("corpus", &run.corpus_dir,
             "directory with a sub-folder or .txt file for each domain; each gets an expert");
  set.String("artifact", &flags->artifact,
             "also write what differs from the dense model to this file");
  set.Double("keep", &run.fit.keep, 0, 1, "of a layer's neurons", "kept by each expert");
  set.OptionalUint64("seed", &flags->seed, "of the router's weights and batches (0)");
  set.Int("windows", &run.corpus.windows_per_domain, 1, 1 << 20, "windows a domain",
          "calibration text taken, evenly spread; time is about proportional");
  set.Int("window-tokens", &run.corpus.window_tokens, 16, 8192, "tokens",
          "context of a calibration window");
  set.Double("hold-out", &run.corpus.hold_out, 0, 0.9, "of each domain",
             "the last part, which is never read, so that it can evaluate the result");
  set.Double("blend", &run.fit.blend, 0, 1, "",
             "how far experts specialise on the tokens that suit them, not their domain");
  set.Int("rounds", &run.fit.rounds, 0, 20, "rounds", "of assigning tokens to experts");
  set.Int("refit-windows", &run.refit_windows_per_domain, 0, 1 << 20, "windows a domain",
          "for the scales of down_proj's columns; 0 leaves them as they are");
  set.Int("router-hidden", &run.router.hidden, 8, 4096, "channels", "width of the router");
  set.Int("router-steps", &run.router.steps, 1, 1 << 20, "steps", "of training it");
  set.Int("router-batch", &run.router.batch_windows, 1, 4096, "windows", "in a step");
  set.Double("persistence", &run.router.persistence, 0, 1, "",
             "weight of the token before in a token's target; more means fewer switches");
  set.Int("threads", &flags->threads, 0, 1024, "threads", "to compute with; 0: all cores");
}

}  // namespace

void DeclareRefactorOptions(OptionSet& set, RefactorFlags* flags) {
  set.String("dense", &flags->dense, "dense model: pregate or HF directory, or GGUF file")
      .Required();
  set.String("out", &flags->out, "directory of the new checkpoint").Required();
  set.Group("Rebuilding an earlier run's result");
  set.String("apply", &flags->apply, "artifact written by --artifact");
  set.Switch("force", &flags->force, "accept an artifact made from another dense model");
  set.Switch("json", &flags->as_json, "print one JSON object");
  DeclareTrainingOptions(set, flags);
  set.Alternatives({"corpus", "apply"});
  set.OnlyWith("apply", {"force", "json"});
  set.OnlyWith("corpus", {"artifact", "keep", "seed", "windows", "window-tokens", "hold-out",
                          "blend", "rounds", "refit-windows", "router-hidden", "router-steps",
                          "router-batch", "persistence", "threads"});
}

}  // namespace pregate
