// How much of this machine's memory is to be had.
#pragma once

#include <cstdint>
#include <optional>

namespace pregate {

// Bytes that could be allocated now without swapping: the kernel's estimate, or what a container's
// limit leaves where that is less. Nothing where the kernel does not say.
std::optional<int64_t> AvailableMemoryBytes();

}  // namespace pregate
