#include "common/device/cuda/wait_limit.h"

#include <iterator>

#include "absl/strings/str_cat.h"

namespace pregate::cuda {
namespace {

constexpr int kKernels = static_cast<int>(WaitingKernel::kCount);
constexpr const char* kKernelNames[] = {"step kernel", "split attention", "warpgroup attention",
                                        "ring product", "cluster product"};
static_assert(std::size(kKernelNames) == kKernels);

const char* NameOf(uint64_t wait) {
  switch (static_cast<WaitFor>(wait)) {
    case WaitFor::kBlocks:
      return "for the other blocks";
    case WaitFor::kTiles:
      return "for tiles of attention";
    case WaitFor::kFilledSlot:
      return "for a slot of its ring to be filled";
    case WaitFor::kReadSlot:
      return "for a slot of its ring to be read";
  }
  return "for something unknown";
}

}  // namespace

std::string StuckWaitText(const uint64_t* stuck) {
  std::string text;
  for (int k = 0; k < kKernels; ++k) {
    if (stuck[k] == 0) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", "the ", kKernelNames[k], "'s block ",
                    static_cast<uint32_t>(stuck[k]), ", ", (stuck[k] >> 32) & 0xFFFFFF,
                    " waited too long ", NameOf(stuck[k] >> 56));
  }
  return text;
}

}  // namespace pregate::cuda
