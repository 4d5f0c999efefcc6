#include "refactor/run_inputs.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/base/hash.h"
#include "common/base/status.h"
#include "refactor/evaluate.h"
#include "refactor/sample.h"

namespace pregate {
namespace {

absl::Status CheckVocabulary(const Texts& texts, const Checkpoint& dense) {
  for (size_t d = 0; d < texts.domains.size(); ++d) {
    for (const auto* ids : {&texts.kept[d], &texts.held_out[d]}) {
      if (ids->empty()) continue;
      const TokenId largest = *std::max_element(ids->begin(), ids->end());
      if (largest < dense.spec().vocab_size) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "domain ", texts.domains[d], ": the tokenizer of ", dense.path(), " gives id ", largest,
          ", but the model has a vocabulary of ", dense.spec().vocab_size));
    }
  }
  return absl::OkStatus();
}

std::string DigestOf(const Texts& texts) {
  Sha256 sha;
  for (size_t d = 0; d < texts.domains.size(); ++d) {
    sha.Update(absl::StrCat(texts.domains[d], "\n", texts.kept[d].size(), "\n"));
    for (const auto* ids : {&texts.kept[d], &texts.held_out[d]}) {
      sha.Update({reinterpret_cast<const char*>(ids->data()), ids->size() * sizeof(TokenId)});
    }
  }
  return sha.HexDigest();
}

absl::Status ReadChatOpening(const Tokenizer& tokenizer, const RefactorOptions& options,
                             RunText& text) {
  if (options.tune.parent_samples == 0 || options.tune.chat_share == 0) return absl::OkStatus();
  text.chat_opening = ChatOpening(tokenizer);
  if (2 * text.chat_opening.size() <= static_cast<size_t>(options.corpus.window_tokens)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("window-tokens ", options.corpus.window_tokens,
                   ": the model's conversations begin with ", text.chat_opening.size(),
                   " tokens, more than half of a window; --chat-share 0 samples none"));
}

}  // namespace

absl::StatusOr<RunText> ReadRunText(const Checkpoint& dense, const RefactorOptions& options) {
  ASSIGN_OR_RETURN(const auto tokenizer, dense.LoadTokenizer());
  ASSIGN_OR_RETURN(const Texts texts, ReadTexts(options.corpus_dir, *tokenizer, options.corpus));
  RETURN_IF_ERROR(CheckVocabulary(texts, dense));
  const int window = options.corpus.window_tokens;
  RunText text;
  text.calibration = CutWindows(texts, texts.kept, window, options.corpus.windows_per_domain);
  text.tuning = CutWindows(texts, texts.kept, window, 0);
  text.digest = DigestOf(texts);
  text.dropped = texts.dropped;
  RETURN_IF_ERROR(ReadChatOpening(*tokenizer, options, text));
  if (options.eval_windows > 0 && options.corpus.hold_out > 0) {
    text.held_out = CutWindows(texts, texts.held_out, window, options.eval_windows);
    RETURN_IF_ERROR(CheckHeldOut(text.held_out));
  }
  return text;
}

nlohmann::json SampleInputs(const Checkpoint& dense, const RunText& text,
                            const RefactorOptions& options) {
  nlohmann::json inputs = {{"dense", dense.digest()},
                           {"text", text.digest},
                           {"window-tokens", options.corpus.window_tokens},
                           {"parent-samples", options.tune.parent_samples},
                           {"seed", options.tune.seed}};
  if (!text.chat_opening.empty()) inputs["chat-share"] = options.tune.chat_share;
  return inputs;
}

nlohmann::json CalibrateInputs(const Checkpoint& dense, const RunText& text,
                               const RefactorOptions& options) {
  return {{"dense", dense.digest()},
          {"text", text.digest},
          {"window-tokens", options.corpus.window_tokens},
          {"windows", options.corpus.windows_per_domain}};
}

nlohmann::json SplitInputs(const Checkpoint& dense, const RunText& text,
                           const RefactorOptions& options) {
  nlohmann::json inputs = CalibrateInputs(dense, text, options);
  const SplitOptions& split = options.split;
  inputs.update({{"keep", split.widths.keep},
                 {"blend", split.fit.blend},
                 {"rounds", split.fit.rounds},
                 {"refit-windows", split.refit_windows_per_domain},
                 {"router-hidden", split.router.hidden},
                 {"router-steps", split.router.steps},
                 {"router-batch", split.router.batch_windows},
                 {"router-temperature", split.router.temperature},
                 {"persistence", split.router.persistence},
                 {"seed", split.router.seed}});
  if (split.widths.keep_layers.empty()) {
    inputs["layer-widths"] = split.widths.by_layer;
  } else {
    inputs["keep-layers"] = split.widths.keep_layers;
  }
  if (split.as_paper) inputs.update({{"as-paper", true}, {"mixed-loss", split.router.mixed_loss}});
  return inputs;
}

nlohmann::json TuneInputsOf(const Checkpoint& dense, const RunText& text,
                            const RefactorOptions& options) {
  nlohmann::json inputs = SplitInputs(dense, text, options);
  const TuneOptions& tune = options.tune;
  inputs.update({{"tokens", tune.tokens}});
  if (tune.tokens == 0) return inputs;
  inputs.update({{"parent-samples", tune.parent_samples},
                 {"method", tune.method},
                 {"batch", tune.batch_windows},
                 {"rate", tune.rate},
                 {"optimizer", tune.optimizer},
                 {"text-share", tune.text_share},
                 {"chat-share", tune.chat_share},
                 {"tune-rounds", tune.rounds},
                 {"tune-embeddings", tune.embeddings},
                 {"router-target", tune.router_target},
                 {"router-memory", tune.router_memory},
                 {"artifact-bytes", tune.artifact_bytes},
                 {"coded-share", tune.coded_share}});
  if (tune.text_loss) inputs["text-loss"] = *tune.text_loss;
  if (tune.teacher_tokens > 0) inputs["teacher-tokens"] = tune.teacher_tokens;
  return inputs;
}

nlohmann::json EvaluateInputs(const Checkpoint& dense, const RunText& text,
                              const RefactorOptions& options) {
  nlohmann::json inputs = TuneInputsOf(dense, text, options);
  inputs.update({{"eval-windows", options.eval_windows}});
  return inputs;
}

nlohmann::json BaselineTuneInputs(const Checkpoint& dense, const RunText& text,
                                  const RefactorOptions& options, const std::string& baseline) {
  nlohmann::json inputs = TuneInputsOf(dense, text, options);
  inputs.update({{"baseline", baseline}});
  return inputs;
}

nlohmann::json BaselineInputs(const Checkpoint& dense, const RunText& text,
                              const RefactorOptions& options, const std::string& baseline) {
  nlohmann::json inputs = EvaluateInputs(dense, text, options);
  inputs.update({{"baseline", baseline}});
  return inputs;
}

Provenance Describe(const Checkpoint& dense, const RunText& text, const RefactorOptions& options) {
  Provenance p;
  const size_t slash = dense.path().find_last_of('/');
  p.source = slash == std::string::npos ? dense.path() : dense.path().substr(slash + 1);
  p.source_digest = dense.digest();
  const SplitOptions& split = options.split;
  const TuneOptions& tune = options.tune;
  p.method =
      split.as_paper
          ? absl::StrFormat(
                "keep by mean |h|; router of %d on overlaps, %s loss, %d steps of %d windows in %d "
                "cycles",
                split.router.hidden, split.router.mixed_loss ? "mixed" : "divergence",
                split.router.steps, split.router.batch_windows, split.router.cycles)
          : absl::StrFormat(
                "keep by mean(h^2) mean(share of output energy), blend %g, %d rounds; scales "
                "refitted on %d "
                "windows a domain, ridge %g; router of %d distilled in %d steps of %d windows, "
                "temperature "
                "%g, persistence %g",
                split.fit.blend, split.fit.rounds, split.refit_windows_per_domain,
                split.refit_ridge, split.router.hidden, split.router.steps,
                split.router.batch_windows, split.router.temperature, split.router.persistence);
  if (split.widths.keep_layers.empty()) {
    absl::StrAppend(&p.method, "; layers' widths ", split.widths.by_layer);
  }
  if (tune.tokens > 0) {
    absl::StrAppendFormat(&p.method, "; tuned by %s on %d tokens, router's target %s", tune.method,
                          tune.tokens, split.as_paper ? "overlap" : tune.router_target);
    if (tune.teacher_tokens > 0) {
      absl::StrAppendFormat(&p.method, ", by the parent tuned on %d tokens", tune.teacher_tokens);
    }
    if (tune.parent_samples > 0) {
      absl::StrAppendFormat(&p.method, ", %g%% of it from %d tokens that the parent wrote",
                            100 * (1 - tune.text_share), tune.parent_samples);
    }
  }
  const Corpus& corpus = text.calibration;
  p.data =
      absl::StrFormat("%s: %d windows of %d tokens out of %d, last %g%% held out",
                      absl::StrJoin(corpus.domains, ", "), corpus.num_windows(),
                      corpus.window_tokens, corpus.tokens_in_text, 100 * options.corpus.hold_out);
  p.commit = options.commit;
  return p;
}

}  // namespace pregate
