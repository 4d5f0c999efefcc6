// The page for people: one HTML file (gateway_service/page/index.html) with its style and script in it, put
// into the program by CMake.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace pregate::gateway {

absl::string_view PageHtml();

// Beside its type: what it may do is what it was built with. Style and script are allowed by their
// hashes, connections to this server alone; nobody may frame it.
std::vector<std::pair<std::string, std::string>> PageHeaders();

// The policy of a page: `html` has at most one <style> and one <script>, both without attributes.
std::string ContentSecurityPolicy(absl::string_view html);

}  // namespace pregate::gateway
