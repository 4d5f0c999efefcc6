// What a run reads, and how its stages' records name what decides their results.
#pragma once

#include "refactor/refactor_run.h"

namespace pregate {

struct RunText {
  Corpus calibration;                 // some windows of the kept text
  Corpus tuning;                      // all of them
  Corpus held_out;                    // some of the rest; empty where nothing is evaluated
  std::string digest;                 // of all ids
  std::vector<TokenId> chat_opening;  // sample.h; empty where no conversations are wanted
  std::vector<double> dropped;        // as in Texts
};
// InvalidArgument also for a tokenizer with more ids than the model.
absl::StatusOr<RunText> ReadRunText(const Checkpoint& dense, const RefactorOptions& options);

// Not of how the model is cut: runs that differ there can have the same samples.
nlohmann::json SampleInputs(const Checkpoint& dense, const RunText& text,
                            const RefactorOptions& options);

// Each holds all of the stage before.
nlohmann::json CalibrateInputs(const Checkpoint& dense, const RunText& text,
                               const RefactorOptions& options);
nlohmann::json SplitInputs(const Checkpoint& dense, const RunText& text,
                           const RefactorOptions& options);
nlohmann::json TuneInputsOf(const Checkpoint& dense, const RunText& text,
                            const RefactorOptions& options);
nlohmann::json EvaluateInputs(const Checkpoint& dense, const RunText& text,
                              const RefactorOptions& options);

// Of the tuning of `baseline`, and of its evaluation.
nlohmann::json BaselineTuneInputs(const Checkpoint& dense, const RunText& text,
                                  const RefactorOptions& options, const std::string& baseline);
nlohmann::json BaselineInputs(const Checkpoint& dense, const RunText& text,
                              const RefactorOptions& options, const std::string& baseline);

Provenance Describe(const Checkpoint& dense, const RunText& text, const RefactorOptions& options);

}  // namespace pregate
