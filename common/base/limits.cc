#include "common/base/limits.h"

#include "common/base/gateway_limits.h"
#include "common/base/grammar_limits.h"
#include "common/base/request_limits.h"

namespace pregate {
namespace {

#define PREGATE_LIMIT_ENTRY(name, value, unit, meaning) {&#name[1], value, unit, meaning},
constexpr Limit kLimits[] = {
    PREGATE_LIMITS(PREGATE_LIMIT_ENTRY) PREGATE_REQUEST_LIMITS(PREGATE_LIMIT_ENTRY)
        PREGATE_CONSTRAINT_LIMITS(PREGATE_LIMIT_ENTRY) PREGATE_GATEWAY_LIMITS(PREGATE_LIMIT_ENTRY)};
#undef PREGATE_LIMIT_ENTRY

}  // namespace

absl::Span<const Limit> AllLimits() { return kLimits; }

}  // namespace pregate
