#include "common/base/version.h"

namespace pregate {

const char* Version() { return PREGATE_VERSION; }
const char* Commit() { return PREGATE_COMMIT; }

std::string VersionText() {
  const std::string commit = Commit();
  return Version() + (commit.empty() ? "" : " (" + commit + ")");
}

}  // namespace pregate
