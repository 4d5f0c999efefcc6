// Tunes the weights that an artifact's experts are cut from, and its router, on the text:
//
//   round 0          each window on its own domain's expert
//   rounds 1, 2, …   a router trained on how well each expert does, then each token on its route
//   at the end       the router once more, for the experts as they are
//
// By method readme the first router routes every round: its target is of the parent's activations, so
// training it between the rounds, as the paper does, would not change what it learns.
//
// Experts that are all alike (a dense model is such) need no router and get none. With routers of
// the layers in place of the one (baselines.h) the first half of round 0 runs each window on its
// domain's expert and teaches every layer's router, on its input as it is, that expert by
// cross-entropy; from then on each layer chooses, and weights and routers learn from the one loss
// through the gate of causal_model.h. Routers begin at 0 and have kLayerRouterRate times the rate,
// the paper's ratio (docs/PAPER.md, its Table 2), and a limit of the gradient of their own.
//
// Text that the parent wrote (sample.h) is tuned on beside the domains' text, window for window
// (batches.h). Its loss is the divergence alone, at the weight that it has elsewhere: the tokens there
// are draws from the parent's distribution, so the gradient of their nll is that of the divergence
// on average, with noise, and no news of the world.
//
// The parent that the domains' text is measured against may have been tuned on that text itself
// (`teacher`): it knows it better. What the parent wrote is always measured against the parent.
//
// All experts are one set of weights under their gains (causal_model.h), so what one learns the
// others share. Nothing depends on when a run was stopped: the batch of a step, its rate and the
// routes follow from seed and step, and the state is the weights, the optimizer's means and the step.
#pragma once

#include <functional>
#include <optional>
#include <ostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/base/clock.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/artifact.h"
#include "refactor/corpus.h"
#include "refactor/router_train.h"
#include "refactor/work_folder.h"

namespace pregate {

// What methods differ in.
struct TuneMethod {
  const char* name;
  double divergence;  // weight of KL to the parent's distribution in the loss
  double nll;         // weight of the text's own
  double rate;        // the optimizer's peak
  double decay;       // of matrices to 0, by the rate
  double warmup;      // of all steps, linear; then a cosine
  double final_rate;  // of the peak
  int rounds;
  double
      round_decay;  // each round is a cosine whose peak is so much of the one before; 0: one for all
  bool as_paper;    // cut so too (split.h); the first router routes all rounds
};
absl::Span<const TuneMethod> TuneMethods();
absl::StatusOr<TuneMethod> FindTuneMethod(const std::string& name);  // InvalidArgument

struct TuneOptions {
  std::string method = "pregate";
  int32_t tokens = 0;               // tuned on, with repeats; 0: nothing is tuned
  int32_t parent_samples = 0;       // tokens that the parent writes, to be tuned on too
  double chat_share = 0.25;         // of that, conversations, where the parent has a chat template
  double text_share = 0.5;          // of the windows tuned on, where the parent writes some
  int batch_windows = 24;           // a step
  int micro_windows = 0;            // at a time; 0: all on a card, 1024 tokens on a CPU
  int32_t teacher_tokens = 0;       // the parent is tuned on first, to teach the text; 0: as it is
  std::optional<double> text_loss;  // weight of the text's own loss, the divergence has the rest
  double rate = 0;                  // 0: the method's
  std::string optimizer = "adamw";  // of matrices; or "muon" (optimizer.h)
  int rounds = 0;                   // 0: the method's
  bool embeddings = false;          // tune the embedding and the head too
  std::string router_target = "loss";  // of later routers; or "energy": the first one stays
  double router_memory = 0.5;          // part of a token's target that is the mean before it
  int64_t artifact_bytes = int64_t{27} << 20;  // for deltas; 0: 8 bits a weight
  double coded_share = 0.35;  // of the steps, the last, on weights as they are stored (code_grid.h)
  std::string device = "cpu";
  uint64_t seed = 0;
  absl::Duration save_every = absl::Minutes(1);
};

struct TuneInputs {
  const Checkpoint& dense;
  const Artifact& split;      // without deltas
  const Corpus& tuning;       // all windows, the sampled ones last
  const Corpus& router_text;  // on which routers are trained
  RouterTrainOptions router;
  nlohmann::json inputs;       // of the record
  bool layer_routers = false;  // each layer chooses
  int sampled_windows = 0;     // at the end of `tuning`
  bool nll_alone = false;      // is the loss. REQUIRES: no sampled windows
  // What the dense model is tuned by where it teaches the domains' text; null: nothing.
  const WeightDeltas* teacher = nullptr;
};
inline constexpr double kLayerRouterRate = 10;

// Called a step with the part of all steps that is done and its loss.
using TuneProgress = std::function<void(double done, double loss)>;

// Computed at a time.
int MicroWindows(const TuneOptions& options, int window_tokens);
int64_t TuneSteps(const TuneOptions& options, int window_tokens);

// Goes on from the state in `work`; publishes "artifact.safetensors", losses in "losses.jsonl" and,
// at the end, routers of layers and the record "tune.json". False: `stop` said so, the state is
// saved. Internal for a loss or gradient that is not finite: the last state stays.
absl::StatusOr<bool> Tune(const TuneInputs& inputs, const TuneOptions& options, WorkFolder& work,
                          Clock& clock, const std::function<bool()>& stop,
                          const TuneProgress& progress);

// The state and the routers that rounds began with, which only a run that goes on needs.
absl::Status RemoveTuneState(const WorkFolder& work);

}  // namespace pregate
