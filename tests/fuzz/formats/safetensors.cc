#include "common/model/formats/safetensors.h"

#include "common/base/status.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::safetensors {
namespace {

std::vector<std::string> Seeds() {
  const TempDir dir;
  const std::string path = dir.path("seed.safetensors");
  const std::vector<float> values = {0, 1, -2.5f, 3e38f, 1e-40f, 6};
  const std::vector<std::vector<OutputTensor>> files = {
      {},
      {FloatTensor("a", {2, 3}, values), FloatTensor("b", {6}, values, DType::kF16)},
      {FloatTensor("c", {1, 1, 6}, values, DType::kBF16), IntTensor("d", {2}, {7, -7}),
       FloatTensor("empty", {0, 4}, {})}};
  std::vector<std::string> seeds;
  for (const auto& tensors : files) {
    const absl::Status status = WriteSafetensors(path, tensors, {{"format", "pt"}});
    PREGATE_CHECK(status.ok(), "", status.ToString());
    seeds.push_back(ReadFile(path));
  }
  return seeds;
}

bool Run(std::string_view input) {
  static const MemoryFile memory;
  const auto file = SafetensorsFile::Open(memory.Holding(input));
  if (!file.ok()) return false;
  for (const auto& [name, tensor] : (*file)->tensors()) {
    const auto floats = (*file)->ReadFloats(name);
    const auto ints = (*file)->ReadInts(name);
    PREGATE_CHECK(!floats.ok() || !ints.ok(), "a tensor holds one kind of number");
    if (!floats.ok() && !ints.ok()) continue;  // F64 say: named when it is read
    const size_t size = floats.ok() ? floats->size() : ints->size();
    PREGATE_CHECK(static_cast<int64_t>(size) == tensor.num_elements());
  }
  return true;
}

const Registration registration({.name = "safetensors",
                                 .seeds = Seeds,
                                 .run = Run,
                                 .mutate = MutateSafetensors,
                                 .bytes_max = 4096});

}  // namespace
}  // namespace pregate::fuzz::safetensors
