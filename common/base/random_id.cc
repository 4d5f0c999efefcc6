#include "common/base/random_id.h"

#include <random>

namespace pregate {

uint64_t RandomId() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace pregate
