// Which pregate this is.
#pragma once

#include <string>

namespace pregate {

const char* Version();  // "0.1.0"
// What git called the source when the build was configured, "v0.1.0-3-g1a2b3c4d5e6f", or what
// -DPREGATE_COMMIT=... said; empty where neither is known.
const char* Commit();
std::string VersionText();  // "0.1.0 (v0.1.0-3-g1a2b3c4d5e6f)"

}  // namespace pregate
