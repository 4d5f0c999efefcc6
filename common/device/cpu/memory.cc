#include "common/device/cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>

namespace pregate::cpu {
namespace {

constexpr std::align_val_t kAlignment{256};
constexpr size_t kHugePage = size_t{2} << 20;

// Lies before a large buffer.
struct Mapping {
  void* base;
  size_t bytes;
};
Mapping* MappingOf(void* data) { return static_cast<Mapping*>(data) - 1; }

void Unmap(void* data) {
  const Mapping mapping = *MappingOf(data);
  munmap(mapping.base, mapping.bytes);
}

DeviceBuffer AllocateSmall(size_t bytes) {
  void* data = ::operator new(std::max<size_t>(bytes, 1), kAlignment, std::nothrow);
  if (data == nullptr) return {};
  std::memset(data, 0, bytes);
  return DeviceBuffer(data, bytes, [](void* p) { ::operator delete(p, kAlignment); });
}

}  // namespace

DeviceBuffer AllocateZeroed(size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  return AllocateSmall(bytes);  // the sanitizer knows where it ends
#endif
  if (bytes < kHugePage) return AllocateSmall(bytes);
  const size_t mapped = bytes + sizeof(Mapping) + kHugePage;
  if (mapped < bytes) return {};
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return {};
  const uintptr_t begin = reinterpret_cast<uintptr_t>(base) + sizeof(Mapping);
  void* data = reinterpret_cast<void*>((begin + kHugePage - 1) / kHugePage * kHugePage);
  *MappingOf(data) = {base, mapped};
  madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // the rest stays as small as it is
  return DeviceBuffer(data, bytes, Unmap);
}

}  // namespace pregate::cpu
