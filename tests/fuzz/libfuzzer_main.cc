// pregate-fuzz: libFuzzer on one format.
//   pregate-fuzz --list                          the formats' names
//   pregate-fuzz FORMAT --seeds DIR              writes the format's seeds
//   pregate-fuzz FORMAT [LIBFUZZER OPTION ...] [CORPUS DIR ... | INPUT ...]
// Options that bound an input's size, time and memory, and those that make it fast, stand before
// the caller's, which win.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"
#include "tests/fuzz/format.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace pregate::fuzz {
namespace {

constexpr int kInputSecondsMax = 5;
constexpr int kProcessMiBMax = 1024;
constexpr int kAllocationMiBMax = 128;  // at once; inputs are some KiB long

// One process works on a corpus, so nobody else adds to it. Entropic's book-keeping, and naming
// each new function in the log, cost more than the readers do. Inputs begin as short as seeds are
// and grow when that finds nothing more: a mutator of ours would switch that off.
constexpr const char* kFastOptions[] = {"-reload=0", "-entropic=0", "-print_funcs=0",
                                        "-len_control=100"};

const Format* format = nullptr;

[[noreturn]] void ListFormats() {
  for (const Format& each : AllFormats()) std::printf("%s\n", each.name.c_str());
  std::exit(0);
}

[[noreturn]] void WriteSeeds(const std::string& dir) {
  int number = 0;
  for (const std::string& seed : format->seeds()) {
    PREGATE_CHECK(format->run(seed), "refused: seed ", number);
    WriteFile(absl::StrCat(dir, "/seed-", number++), seed);
  }
  std::exit(0);
}

// libFuzzer's own arguments: argv without the format, behind our bounds.
void ReplaceArguments(int* argc, char*** argv) {
  static std::vector<std::string> texts = {(*argv)[0], absl::StrCat("-max_len=", format->bytes_max),
                                           absl::StrCat("-timeout=", kInputSecondsMax),
                                           absl::StrCat("-rss_limit_mb=", kProcessMiBMax),
                                           absl::StrCat("-malloc_limit_mb=", kAllocationMiBMax)};
  texts.insert(texts.end(), std::begin(kFastOptions), std::end(kFastOptions));
  texts.insert(texts.end(), *argv + 2, *argv + *argc);
  static std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  *argc = static_cast<int>(texts.size());
  *argv = pointers.data();
}

void Initialize(int* argc, char*** argv) {
  const std::string first = *argc > 1 ? (*argv)[1] : "";
  if (first == "--list") ListFormats();
  format = FindFormat(first);
  if (format == nullptr) {
    std::fprintf(stderr, "pregate-fuzz: '%s' is no format (--list names them)\n", first.c_str());
    std::exit(2);
  }
  if (*argc == 4 && std::strcmp((*argv)[2], "--seeds") == 0) WriteSeeds((*argv)[3]);
  ReplaceArguments(argc, argv);
}

}  // namespace
}  // namespace pregate::fuzz

// Freed memory is kept from use for some hundred inputs, not for some ten thousand: none is used by
// another input. Short stacks of allocations are quicker to note; ASAN_OPTIONS has them longer when
// a finding is repeated.
extern "C" const char* __asan_default_options() {
  return "quarantine_size_mb=16:malloc_context_size=6";
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  pregate::fuzz::Initialize(argc, argv);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pregate::fuzz::format->run({reinterpret_cast<const char*>(data), size});
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned int seed) {
  using pregate::fuzz::format;
  std::mt19937_64 random(seed);
  if (format->mutate && random() % 2 == 0) {
    const std::string changed = format->mutate({reinterpret_cast<const char*>(data), size}, random);
    if (!changed.empty() && changed.size() <= size_max) {
      std::memcpy(data, changed.data(), changed.size());
      return changed.size();
    }
  }
  return LLVMFuzzerMutate(data, size, size_max);
}
