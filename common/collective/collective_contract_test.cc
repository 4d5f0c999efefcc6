// Contract of Collective: what arrives, and what is counted. Faults have a file of their own.
#include "common/collective/collective_contract.h"

#include <numeric>

#include "expert_service/core/exchange_plan.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(60);

INSTANTIATE_TEST_SUITE_P(Collectives, CollectiveContractTest, testing::ValuesIn(CollectiveCases()),
                         CaseName);

TEST_P(CollectiveContractTest, KnowsItsPlace) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  for (int rank = 0; rank < world_size(); ++rank) {
    EXPECT_EQ(groups[rank]->rank(), rank);
    EXPECT_EQ(groups[rank]->world_size(), world_size());
    // Windows are for ranks that reach each other's memory: one alone has none.
    if (world_size() > 1) {
      EXPECT_EQ(groups[rank]->name(), GetParam().family.name);
    }
    EXPECT_EQ(groups[rank]->bytes_sent(), 0);
  }
}

TEST_P(CollectiveContractTest, AllGatherGivesEveryRankAllBytesInOrder) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{8}, size_t{4097}, size_t{1} << 20}) {
    const int base = Int(0, 100);
    std::string expected;
    for (int rank = 0; rank < world_size(); ++rank) expected.append(bytes, char(base + rank));
    OnEachRank([&](int rank) {
      const int64_t before = groups[rank]->bytes_sent();
      const std::string mine(bytes, char(base + rank));
      std::string all(bytes * world_size(), '?');
      EXPECT_EQ(groups[rank]->AllGather(mine.data(), bytes, all.data()), absl::OkStatus());
      EXPECT_TRUE(all == expected) << "rank " << rank << ", " << bytes << " bytes";
      EXPECT_EQ(groups[rank]->bytes_sent() - before, int64_t(bytes) * (world_size() - 1));
    });
  }
}

TEST_P(CollectiveContractTest, AllGatherWorksInPlace) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  OnEachRank([&](int rank) {
    std::vector<int64_t> all(world_size(), -1);
    all[rank] = 100 + rank;
    EXPECT_EQ(groups[rank]->AllGather(&all[rank], sizeof(int64_t), all.data()), absl::OkStatus());
    std::vector<int64_t> expected(world_size());
    std::iota(expected.begin(), expected.end(), 100);
    EXPECT_EQ(all, expected);
  });
}

TEST_P(CollectiveContractTest, AllToAllMovesRandomRowsOverAndOver) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  constexpr int kRowBytes[] = {1, 2, 64, 1152, 8192};
  for (int round = 0; round < 40; ++round) {
    ExchangeCounts counts(world_size(), std::vector<int>(world_size()));
    for (auto& row : counts) {
      for (int& count : row) count = Int(0, 2) == 0 ? 0 : Int(1, round % 8 == 0 ? 200 : 9);
    }
    const size_t row_bytes = kRowBytes[Int(0, 4)];
    const uint64_t salt = random_();
    OnEachRank([&](int rank) {
      EXPECT_EQ(ExchangeAndCompare(*groups[rank], counts, row_bytes, salt), absl::OkStatus());
    });
  }
}

TEST_P(CollectiveContractTest, AllToAllMovesRowsLargerThanAnySocketBuffer) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  // Some messages of 5 MiB and some of 10, which may take another way.
  ExchangeCounts counts(world_size(), std::vector<int>(world_size(), 1));
  for (int rank = 0; rank < world_size(); ++rank) counts[rank][(rank + 1) % world_size()] = 2;
  OnEachRank([&](int rank) {
    EXPECT_EQ(ExchangeAndCompare(*groups[rank], counts, 5 << 20, seed_), absl::OkStatus());
    EXPECT_EQ(ExchangeAndCompare(*groups[rank], counts, 64, seed_), absl::OkStatus());
  });
}

TEST_P(CollectiveContractTest, ExchangesWithoutRowsWaitForNobody) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  const ExchangeCounts counts(world_size(), std::vector<int>(world_size(), 0));
  OnEachRank([&](int rank) {
    EXPECT_EQ(ExchangeAndCompare(*groups[rank], counts, 1152, seed_), absl::OkStatus());
    EXPECT_EQ(groups[rank]->bytes_sent(), 0);
  });
}

// Operations of one rank may run ahead of its peers' by any number: none takes another's bytes.
TEST_P(CollectiveContractTest, OperationsOfDifferentKindsDoNotMix) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  ExchangeCounts ring(world_size(), std::vector<int>(world_size(), 0));
  for (int rank = 0; rank < world_size(); ++rank) ring[rank][(rank + 1) % world_size()] = 3;
  OnEachRank([&](int rank) {
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(ExchangeAndCompare(*groups[rank], ring, 16, seed_ + i), absl::OkStatus());
      const int64_t mine = i * 100 + rank;
      std::vector<int64_t> all(world_size());
      EXPECT_EQ(groups[rank]->AllGather(&mine, sizeof(mine), all.data()), absl::OkStatus());
      EXPECT_EQ(all.back(), i * 100 + world_size() - 1);
    }
  });
}

// Dispatch there and combine back by one plan of expert_service/core: the sender's and the
// receiver's offsets fit, and what is counted is what the plan says.
TEST_P(CollectiveContractTest, MovesWhatTheExchangePlanSays) {
  MakeWorld(kTimeout);
  const auto groups = JoinAll();
  constexpr int kExperts = 7;
  constexpr int64_t kRowBytes = 96;
  Placement placement{std::vector<std::vector<int32_t>>(kExperts)};
  for (auto& ranks : placement.ranks) ranks = {Int(0, world_size() - 1)};
  std::vector<int32_t> homes(Int(1, 300));
  std::vector<ExpertId> routes(homes.size());
  for (size_t t = 0; t < homes.size(); ++t) {
    homes[t] = Int(0, world_size() - 1);
    routes[t] = Int(0, kExperts - 1);
  }
  const auto plan = MakeExchangePlan(homes, routes, placement, world_size());
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto part = [&](const std::vector<int32_t>& offsets, int rank) {
    return absl::MakeConstSpan(offsets).subspan(rank * (world_size() + 1), world_size() + 1);
  };
  OnEachRank([&](int rank) {
    const auto sent = part(plan->send_offsets, rank);
    const auto received = part(plan->recv_offsets, rank);
    std::vector<char> rows(sent.back() * kRowBytes);
    for (char& byte : rows) byte = static_cast<char>(rank);
    const auto there = world_->Allocate(rank, rows.size());
    const auto at_expert = world_->Allocate(rank, received.back() * kRowBytes);
    const auto back = world_->Allocate(rank, rows.size());
    world_->Put(there.get(), rows);
    Collective& group = *groups[rank];
    ASSERT_EQ(group.AllToAll(there.get(), sent, at_expert.get(), received, kRowBytes),
              absl::OkStatus());
    ASSERT_EQ(group.AllToAll(at_expert.get(), received, back.get(), sent, kRowBytes),
              absl::OkStatus());
    ASSERT_EQ(group.Wait(), absl::OkStatus());
    EXPECT_TRUE(world_->Get(back.get(), rows.size()) == rows) << "rank " << rank;
    int64_t remote_rows = 0;
    for (int peer = 0; peer < world_size(); ++peer) {
      if (peer != rank) remote_rows += plan->count(rank, peer) + plan->count(peer, rank);
    }
    EXPECT_EQ(group.bytes_sent(), remote_rows * kRowBytes);
  });
}

TEST_P(CollectiveContractTest, SeveralGroupsLiveSideBySide) {
  MakeWorld(kTimeout);
  const auto first = JoinAll();
  auto second = JoinAll();
  const ExchangeCounts counts(world_size(), std::vector<int>(world_size(), 2));
  const auto exchange = [&](const auto& groups) {
    OnEachRank([&](int rank) {
      EXPECT_EQ(ExchangeAndCompare(*groups[rank], counts, 128, seed_), absl::OkStatus());
    });
  };
  exchange(first);
  exchange(second);
  second.clear();
  exchange(first);
}

}  // namespace
}  // namespace pregate
