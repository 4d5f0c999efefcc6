#include "common/collective/collective_contract.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr absl::Duration kJoinTimeout = absl::Seconds(60);

// A linear congruential stream: a Mersenne twister's seeding would take most of the test's time.
std::vector<char> RowBytes(uint64_t salt, int source, int target, int row, size_t bytes) {
  uint64_t state = salt * 1000003 + source * 8191 + target * 131 + row;
  std::vector<char> out(bytes);
  for (size_t at = 0; at < bytes; at += sizeof(uint32_t)) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto word = static_cast<uint32_t>(state >> 32);
    std::memcpy(out.data() + at, &word, std::min(sizeof(word), bytes - at));
  }
  return out;
}

}  // namespace

std::shared_ptr<char> CollectiveWorld::Allocate(int rank, size_t bytes) {
  return std::shared_ptr<char>(new char[bytes](), std::default_delete<char[]>());
}
void CollectiveWorld::Put(char* to, const std::vector<char>& bytes) {
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
}
std::vector<char> CollectiveWorld::Get(const char* from, size_t bytes) {
  return std::vector<char>(from, from + bytes);
}

std::vector<CollectiveCase> CollectiveCases() {
  std::vector<CollectiveCase> cases;
  for (const CollectiveFamily& family : CollectivesUnderTest()) {
    for (int size = 1; size <= family.world_size_max; ++size) cases.push_back({family, size});
  }
  return cases;
}

std::string CaseName(const testing::TestParamInfo<CollectiveCase>& info) {
  return absl::StrCat(info.param.family.name, info.param.world_size);
}

CollectiveContractTest::CollectiveContractTest()
    : seed_(std::random_device()()),
      random_(seed_),
      trace_(__FILE__, __LINE__, absl::StrCat("seed ", seed_)) {}

std::vector<std::unique_ptr<Collective>> CollectiveContractTest::JoinAll() {
  const auto rendezvous = world_->factory(0).MakeRendezvous();
  EXPECT_TRUE(rendezvous.ok()) << rendezvous.status();
  std::vector<std::unique_ptr<Collective>> groups(world_size());
  OnEachRank([&](int rank) {
    auto group = world_->factory(rank).Join(*rendezvous, rank, world_size(), kJoinTimeout, {});
    EXPECT_TRUE(group.ok()) << group.status();
    if (group.ok()) groups[rank] = *std::move(group);
  });
  return groups;
}

void CollectiveContractTest::OnEachRank(const std::function<void(int rank)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size(); ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

std::vector<int32_t> SendOffsets(const ExchangeCounts& counts, int source) {
  std::vector<int32_t> offsets = {0};
  for (const int count : counts[source]) offsets.push_back(offsets.back() + count);
  return offsets;
}

std::vector<int32_t> RecvOffsets(const ExchangeCounts& counts, int target) {
  std::vector<int32_t> offsets = {0};
  for (const auto& row : counts) offsets.push_back(offsets.back() + row[target]);
  return offsets;
}

absl::Status CollectiveContractTest::ExchangeAndCompare(Collective& group,
                                                        const ExchangeCounts& counts,
                                                        size_t row_bytes, uint64_t salt) {
  const int rank = group.rank();
  std::vector<char> sent;
  std::vector<char> expected;
  for (int peer = 0; peer < world_size(); ++peer) {
    for (int i = 0; i < counts[rank][peer]; ++i) {
      const auto row = RowBytes(salt, rank, peer, i, row_bytes);
      sent.insert(sent.end(), row.begin(), row.end());
    }
    for (int i = 0; i < counts[peer][rank]; ++i) {
      const auto row = RowBytes(salt, peer, rank, i, row_bytes);
      expected.insert(expected.end(), row.begin(), row.end());
    }
  }
  const std::vector<char> margin(64, '\x5a');  // behind what is received: stays as it is
  expected.insert(expected.end(), margin.begin(), margin.end());
  const auto send = world_->Allocate(rank, sent.size());
  const auto recv = world_->Allocate(rank, expected.size());
  world_->Put(send.get(), sent);
  world_->Put(recv.get() + expected.size() - margin.size(), margin);
  const absl::Status status = group.AllToAll(send.get(), SendOffsets(counts, rank), recv.get(),
                                             RecvOffsets(counts, rank), row_bytes);
  if (!status.ok()) return status;
  if (absl::Status done = group.Wait(); !done.ok()) return done;
  EXPECT_TRUE(world_->Get(recv.get(), expected.size()) == expected) << "rank " << rank;
  return absl::OkStatus();
}

}  // namespace pregate
