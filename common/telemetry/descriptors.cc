#include "common/telemetry/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>

#include "common/base/limits.h"

namespace pregate {
namespace {

rlimit DescriptorLimit() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

}  // namespace

void RaiseDescriptorLimit(const Log& log) {
  const rlimit before = DescriptorLimit();
  rlimit raised = before;
  raised.rlim_cur = before.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &raised) != 0) raised = before;
  log.Info("descriptors", {{"limit", raised.rlim_cur}, {"before", before.rlim_cur}});
}

int ConnectionsThatFit(int max, int descriptors_each) {
  constexpr rlim_t kSmallest = 2 * kDescriptorsReserved;
  const rlim_t limit = std::max(DescriptorLimit().rlim_cur, kSmallest);
  const rlim_t fit = (limit - kDescriptorsReserved) / descriptors_each;
  return static_cast<int>(std::min<rlim_t>(fit, max));
}

}  // namespace pregate
