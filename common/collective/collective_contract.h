// What the contract tests of every Collective share. An executable links these tests with one
// definition of CollectivesUnderTest (local/local_contract_family.cc, gloo/, nccl/).
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/collective/collective.h"
#include "gtest/gtest.h"

namespace pregate {

// What one implementation needs around it, and where AllToAll's memory lies.
class CollectiveWorld {
 public:
  virtual ~CollectiveWorld() = default;
  virtual CollectiveFactory& factory(int rank) = 0;

  // Memory for AllToAll; here the host's. Put writes it, Get reads it, both at once.
  virtual std::shared_ptr<char> Allocate(int rank, size_t bytes);
  virtual void Put(char* to, const std::vector<char>& bytes);
  virtual std::vector<char> Get(const char* from, size_t bytes);
};

struct CollectiveFamily {
  std::string name;
  std::function<std::unique_ptr<CollectiveWorld>(int world_size, absl::Duration timeout)> make;
  int world_size_max = 4;
  bool refuses_used_rendezvous = true;  // NCCL's bootstrap makes no such promise
  std::string skip_because;             // what this machine lacks
};
std::vector<CollectiveFamily> CollectivesUnderTest();

struct CollectiveCase {
  CollectiveFamily family;
  int world_size;
};
std::vector<CollectiveCase> CollectiveCases();
std::string CaseName(const testing::TestParamInfo<CollectiveCase>& info);

// counts[s][d]: rows from source to target.
using ExchangeCounts = std::vector<std::vector<int>>;

// A fresh seed each run, printed when a test of the fixture fails.
class CollectiveContractTest : public testing::TestWithParam<CollectiveCase> {
 protected:
  CollectiveContractTest();
  void SetUp() override {
    if (!GetParam().family.skip_because.empty()) GTEST_SKIP() << GetParam().family.skip_because;
  }

  int world_size() const { return GetParam().world_size; }
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }

  void MakeWorld(absl::Duration timeout) { world_ = GetParam().family.make(world_size(), timeout); }
  // All ranks' groups; they live until the test ends or resets them.
  std::vector<std::unique_ptr<Collective>> JoinAll();
  // Runs body(rank) on a thread for each rank and joins them.
  void OnEachRank(const std::function<void(int rank)>& body);

  // Random rows by `counts` through `group`; the received rows must be those the sources sent.
  // Rows are a function of (salt, source, target, index), so each rank knows what must come.
  absl::Status ExchangeAndCompare(Collective& group, const ExchangeCounts& counts, size_t row_bytes,
                                  uint64_t salt);

  uint64_t seed_;
  std::mt19937_64 random_;
  testing::ScopedTrace trace_;
  std::unique_ptr<CollectiveWorld> world_;
};

std::vector<int32_t> SendOffsets(const ExchangeCounts& counts, int source);
std::vector<int32_t> RecvOffsets(const ExchangeCounts& counts, int target);

}  // namespace pregate
