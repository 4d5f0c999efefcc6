#include "gateway_service/core/scheduler_choice.h"

namespace pregate::gateway {
namespace {

int Least(absl::Span<const SchedulerLoad> schedulers, absl::string_view model, uint64_t turn) {
  int best = -1;
  for (size_t k = 0; k < schedulers.size(); ++k) {
    const auto i = static_cast<int>((turn + k) % schedulers.size());
    const SchedulerLoad& s = schedulers[i];
    if (!s.ready || s.tried || (!model.empty() && s.model != model)) continue;
    if (best < 0 || s.outstanding < schedulers[best].outstanding) best = i;
  }
  return best;
}

}  // namespace

int ChooseScheduler(absl::Span<const SchedulerLoad> schedulers, absl::string_view model,
                    uint64_t turn) {
  for (const SchedulerLoad& s : schedulers) {
    if (!model.empty() && s.model == model) return Least(schedulers, model, turn);
  }
  return Least(schedulers, "", turn);
}

}  // namespace pregate::gateway
