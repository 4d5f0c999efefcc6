// The formats without a fuzzer: seeds and a few thousand inputs derived from them, with any
// compiler. The long form, which is guided by coverage, is scripts/fuzz.sh.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "absl/time/clock.h"
#include "common/rpc/testing/random_proto.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz {
namespace {

constexpr int kInputs = 3000;
constexpr absl::Duration kTimeMax = absl::Seconds(10);  // of one format

uint64_t Seed() {
  const char* given = getenv("PREGATE_FUZZ_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

// From memory of exactly the input's size, so that AddressSanitizer sees the first byte behind it.
bool Accepts(const Format& format, std::string_view input) {
  const std::unique_ptr<char[]> bytes(new char[input.size()]);
  std::memcpy(bytes.get(), input.data(), input.size());
  return format.run({bytes.get(), input.size()});
}

std::string Mutated(const Format& format, std::string input, std::mt19937_64& random) {
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
    const bool keep_structure = format.mutate && random() % 2 == 0;
    input = keep_structure ? format.mutate(input, random) : testing::Mutate(input, random);
  }
  return input.substr(0, format.bytes_max);
}

class FuzzTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FuzzTest, WhateverIsReadNothingBreaks) {
  const Format& format = *FindFormat(GetParam());
  const std::vector<std::string> seeds = format.seeds();
  ASSERT_FALSE(seeds.empty());
  for (const std::string& seed : seeds) {
    EXPECT_LE(seed.size(), format.bytes_max);
    EXPECT_TRUE(Accepts(format, seed)) << "refused: a seed of " << seed.size() << " bytes";
  }
  Accepts(format, "");
  const uint64_t seed = Seed();
  std::printf("PREGATE_FUZZ_SEED=%lu\n", seed);
  std::fflush(stdout);
  std::mt19937_64 random(seed);
  const absl::Time end = absl::Now() + kTimeMax;
  for (int i = 0; i < kInputs && absl::Now() < end; ++i) {
    Accepts(format, Mutated(format, seeds[random() % seeds.size()], random));
  }
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const Format& format : AllFormats()) names.push_back(format.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, FuzzTest, ::testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pregate::fuzz
