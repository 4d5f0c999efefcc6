// gRPC's view of characters as Abseil's.
#pragma once

#include <grpcpp/support/string_ref.h>

#include "absl/strings/string_view.h"

namespace pregate {

inline absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

}  // namespace pregate
