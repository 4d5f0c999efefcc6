// What `logits` and `eval` share: a model loaded on one device of this machine without services.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "cli/offline/offline_model.h"
#include "common/base/clock.h"
#include "common/config/option_set.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate::cli {

struct OfflineFlags {
  std::string model, dtype = "f32", device = "cpu";
  int32_t threads = 0;                  // 0: all cores
  int32_t expert = -1;                  // -1: the router decides
  std::optional<int32_t> expert_slots;  // as WorkerOptions'
  bool as_json = false;
};
// Declares --model, --dtype, --device, --threads, --expert-slots and --json.
void DeclareOfflineFlags(OptionSet& set, OfflineFlags* flags);
// Declares --expert.
void DeclareExpertFlag(OptionSet& set, OfflineFlags* flags);

// Members are destroyed in reverse order.
struct LoadedModel {
  SystemClock clock;
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Device> device;
  std::unique_ptr<OfflineModel> model;
};
// `longest`: tokens of the longest list that will run; 0: as long as the model's context. A model
// with LongRoPE has other frequencies where that is beyond the context of its training.
absl::StatusOr<std::unique_ptr<LoadedModel>> LoadOffline(const OfflineFlags& flags,
                                                         size_t longest = 0);

}  // namespace pregate::cli
