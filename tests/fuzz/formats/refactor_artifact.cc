// What `pregate refactor --apply` reads.
#include "common/base/status.h"
#include "refactor/artifact.h"
#include "refactor/testing/small_artifact.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::refactor_artifact {
namespace {

std::vector<std::string> Seeds() {
  const TempDir dir;
  std::vector<std::string> seeds;
  for (const bool columns : {false, true}) {
    const std::string path = dir.path("artifact.safetensors");
    PREGATE_CHECK(WriteArtifact(SmallArtifact(columns), DType::kF16, path).ok());
    seeds.push_back(ReadFile(path));
  }
  return seeds;
}

bool Run(std::string_view input) {
  static MemoryFile memory;
  const auto artifact = ReadArtifact(memory.Holding(input));
  return artifact.ok() && RefactoredSpec(SmallDenseSpec(), *artifact).ok();
}

const Registration registration(
    {.name = "refactor_artifact", .seeds = Seeds, .run = Run, .mutate = MutateSafetensors});

}  // namespace
}  // namespace pregate::fuzz::refactor_artifact
