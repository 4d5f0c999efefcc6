// What this machine can do at best: the floors and ceilings that benchmarks are read against.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/device/cpu/thread_pool.h"

namespace pregate::bench {

// Reads `bytes` (a multiple of 4096 a thread) once with all threads; returns a checksum so that the
// reads cannot be removed.
uint64_t ReadMemory(cpu::ThreadPool& pool, const void* data, size_t bytes);

// Fused multiply-adds on registers alone; returns how many floating-point operations were done.
double MultiplyAdd(cpu::ThreadPool& pool, int64_t rounds);

}  // namespace pregate::bench
