#include "cli/offline.h"

#include <algorithm>

#include "cli/model/authors_layout.h"
#include "cli/progress.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/device/any/any_device.h"

namespace pregate::cli {

void DeclareOfflineFlags(OptionSet& set, OfflineFlags* flags) {
  set.String("model", &flags->model, "pregate or HF directory, or GGUF file").Required();
  set.Choice("dtype", &flags->dtype, DTypeChoices(), "of weights and KV");
  set.Choice("device", &flags->device, {"cpu", "cuda"}, "that computes");
  set.Int("threads", &flags->threads, 0, kThreadsMax, "threads", "of the CPU device; 0: all cores");
  set.IntOrAuto("expert-slots", &flags->expert_slots, 0, kExpertsMax, "experts",
                "whose units fit on the device at once; 0: all, auto: as many as its memory has "
                "room for");
  set.Switch("json", &flags->as_json, "print one JSON object");
}

void DeclareExpertFlag(OptionSet& set, OfflineFlags* flags) {
  set.Int("expert", &flags->expert, -1, kExpertsMax - 1, "expert id",
          "this expert for every token; -1: the router decides");
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadOffline(const OfflineFlags& flags,
                                                         size_t longest) {
  auto loaded = std::make_unique<LoadedModel>();
  ASSIGN_OR_RETURN(loaded->checkpoint, OpenCheckpoint(flags.model));
  OfflineOptions options;
  ASSIGN_OR_RETURN(options.types, TypesOf(flags.dtype));
  options.expert_slots = flags.expert_slots;
  const size_t context_max = loaded->checkpoint->spec().max_position;
  options.context_tokens = static_cast<int32_t>(std::min(longest, context_max));
  if (flags.expert >= 0) {
    const int num_experts = loaded->checkpoint->spec().num_experts;
    if (flags.expert >= num_experts) {
      return absl::InvalidArgumentError(
          absl::StrCat("--expert ", flags.expert, ": the model has ", num_experts, " experts"));
    }
    options.expert = flags.expert;
  }
  ASSIGN_OR_RETURN(loaded->device, MakeDevice(flags.device, flags.threads));
  ProgressLine progress("loading", flags.as_json);
  ASSIGN_OR_RETURN(loaded->model,
                   OfflineModel::Load(*loaded->checkpoint, loaded->device.get(), &loaded->clock,
                                      options, [&](int done, int total) {
                                        progress.Update(done, total);
                                        return true;
                                      }));
  return loaded;
}

}  // namespace pregate::cli
