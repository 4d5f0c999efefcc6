// Stage 1: the dense model over the calibration windows, into the activation log.
#pragma once

#include <functional>

#include "common/base/clock.h"
#include "refactor/activation_log.h"
#include "refactor/corpus.h"
#include "refactor/dense_forward.h"
#include "refactor/work_folder.h"

namespace pregate {

// What a long loop asks between two pieces, and tells.
struct StageHooks {
  std::function<bool()> stop = [] { return false; };
  std::function<void(double done, const std::string& note)> progress = [](double,
                                                                          const std::string&) {};
};

// Goes on from the record "calibrate.json" and the log "activations.bin" in `work`, whose records
// are synced every half minute. False: `stop` said so.
absl::StatusOr<bool> Calibrate(const DenseForward& model, const ModelSpec& spec,
                               const Corpus& corpus, const nlohmann::json& inputs, WorkFolder& work,
                               Clock& clock, const StageHooks& hooks);

absl::StatusOr<std::unique_ptr<ActivationLog>> OpenActivations(const WorkFolder& work,
                                                               const ModelSpec& spec,
                                                               const Corpus& corpus);
// Once the log is no longer needed.
absl::Status RemoveActivations(const WorkFolder& work);

}  // namespace pregate
