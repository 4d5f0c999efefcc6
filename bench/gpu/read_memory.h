// A card's memory, read and not written.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace pregate {

// Reads `bytes`, a multiple of 16, of device memory that holds zeros. `never` is a word that the kernel would
// write to if there were others, so that the compiler leaves the reading in.
cudaError_t ReadMemory(cudaStream_t stream, int multiprocessors, const void* from, size_t bytes,
                       uint32_t* never);

}  // namespace pregate
