// Contract of Collective when ranks leave, stall, abort or err: an error in time, never a hang.
// What must not happen has a limit of a minute, what must has milliseconds: no test waits it out.
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "common/collective/collective_contract.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kShort = absl::Milliseconds(150);
constexpr absl::Duration kPrompt = absl::Seconds(20);  // far less than kLong on any machine

class CollectiveFaultsTest : public CollectiveContractTest {
 protected:
  void SetUp() override {
    CollectiveContractTest::SetUp();
    if (world_size() == 1) GTEST_SKIP() << "needs peers";
  }
  ExchangeCounts Everywhere(int rows) {
    return ExchangeCounts(world_size(), std::vector<int>(world_size(), rows));
  }
  absl::Status Exchange(Collective& group) {
    return ExchangeAndCompare(group, Everywhere(3), 1152, seed_);
  }
  // Every later call returns the first error.
  void ExpectDead(Collective& group, const absl::Status& error) {
    char byte = 0;
    std::vector<char> all(world_size());
    EXPECT_EQ(group.AllGather(&byte, 1, all.data()), error);
    EXPECT_EQ(Exchange(group), error);
    EXPECT_EQ(group.Wait(), error);
  }
};

INSTANTIATE_TEST_SUITE_P(Collectives, CollectiveFaultsTest, testing::ValuesIn(CollectiveCases()),
                         CaseName);

TEST_P(CollectiveFaultsTest, PeerThatLeavesFailsAnOperationOfTheOthersAtOnce) {
  MakeWorld(kLong);
  auto groups = JoinAll();
  const absl::Time start = absl::Now();
  const int leaver = Int(0, world_size() - 1);
  OnEachRank([&](int rank) { EXPECT_EQ(Exchange(*groups[rank]), absl::OkStatus()); });
  OnEachRank([&](int rank) {
    if (rank == leaver) return groups[rank].reset();
    const absl::Status error = Exchange(*groups[rank]);
    EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable) << error;
    ExpectDead(*groups[rank], error);
  });
  EXPECT_LT(absl::Now() - start, kPrompt);
}

TEST_P(CollectiveFaultsTest, PeerThatStallsFailsTheOthersWithinTheTimeout) {
  MakeWorld(kShort);
  const auto groups = JoinAll();
  const absl::Time start = absl::Now();
  OnEachRank([&](int rank) {
    if (rank == 0) return;  // stays in the group, does nothing
    const absl::Status error = Exchange(*groups[rank]);
    // The first to give up leaves; the others see that or their own timeout.
    EXPECT_THAT(error.code(),
                AnyOf(absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kUnavailable))
        << error;
    ExpectDead(*groups[rank], error);
  });
  EXPECT_GE(absl::Now() - start, kShort);
  EXPECT_LT(absl::Now() - start, kPrompt);
  EXPECT_FALSE(Exchange(*groups[0]).ok());
}

TEST_P(CollectiveFaultsTest, AbortFromAnotherThreadEndsARunningOperation) {
  for (int round = 0; round < 20; ++round) {
    MakeWorld(kLong);
    const auto groups = JoinAll();
    const absl::Time start = absl::Now();
    std::promise<void> begins;
    absl::Status error;
    std::thread runs([&] {
      begins.set_value();
      error = Exchange(*groups[0]);  // the others never come
    });
    begins.get_future().wait();
    for (int spin = Int(0, 2000); spin > 0; --spin) std::this_thread::yield();
    groups[0]->Abort();
    runs.join();
    EXPECT_EQ(error.code(), absl::StatusCode::kAborted) << error;
    EXPECT_LT(absl::Now() - start, kPrompt);
    ExpectDead(*groups[0], error);
  }
}

TEST_P(CollectiveFaultsTest, AbortOfOneRankEndsItsPeersOperations) {
  MakeWorld(kLong);
  const auto groups = JoinAll();
  const absl::Time start = absl::Now();
  OnEachRank([&](int rank) {
    if (rank == world_size() - 1) return groups[rank]->Abort();
    const absl::Status error = Exchange(*groups[rank]);
    EXPECT_THAT(error.code(), AnyOf(absl::StatusCode::kAborted, absl::StatusCode::kUnavailable))
        << error;
  });
  EXPECT_LT(absl::Now() - start, kPrompt);
}

TEST_P(CollectiveContractTest, AbortIsForEverAndIdempotent) {
  MakeWorld(kLong);
  const auto groups = JoinAll();
  groups[0]->Abort();
  groups[0]->Abort();
  char byte = 0;
  std::vector<char> all(world_size());
  EXPECT_EQ(groups[0]->AllGather(&byte, 1, all.data()).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(groups[0]->Wait().code(), absl::StatusCode::kAborted);
}

TEST_P(CollectiveContractTest, OffsetsOutOfOrderAreRefusedAndEndTheGroup) {
  MakeWorld(kLong);
  const auto groups = JoinAll();
  std::vector<int32_t> good(world_size() + 1, 0);
  std::vector<int32_t> falling = good;
  falling[0] = 1;
  const auto memory = world_->Allocate(0, 64);
  const absl::Status error = groups[0]->AllToAll(memory.get(), falling, memory.get(), good, 8);
  EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << error;
  EXPECT_THAT(error.message(), HasSubstr("send_offsets[1] = 0"));
  EXPECT_EQ(groups[0]->AllToAll(memory.get(), good, memory.get(), good, 8), error);
}

TEST_P(CollectiveContractTest, OffsetsOfAnotherWorldSizeAreRefused) {
  MakeWorld(kLong);
  const auto groups = JoinAll();
  const std::vector<int32_t> good(world_size() + 1, 0);
  const std::vector<int32_t> longer(world_size() + 2, 0);
  const auto memory = world_->Allocate(0, 64);
  EXPECT_EQ(groups[0]->AllToAll(memory.get(), good, memory.get(), longer, 8).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(CollectiveFaultsTest, JoinNamesTheMissingRanks) {
  MakeWorld(kLong);
  const auto rendezvous = world_->factory(0).MakeRendezvous();
  ASSERT_TRUE(rendezvous.ok());
  OnEachRank([&](int rank) {
    if (rank == 1) return;
    // The first to give up ends it for all.
    const absl::Duration timeout = rank == 0 ? kShort : kLong;
    const auto group = world_->factory(rank).Join(*rendezvous, rank, world_size(), timeout, {});
    EXPECT_THAT(group.status().code(),
                AnyOf(absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kNotFound));
    if (rank == 0) {
      EXPECT_THAT(group.status().message(), HasSubstr("did not come: 1"));
    }
  });
}

TEST_P(CollectiveFaultsTest, AStopFromAnotherThreadEndsAJoin) {
  for (int round = 0; round < 5; ++round) {
    MakeWorld(kLong);
    const auto rendezvous = world_->factory(0).MakeRendezvous();
    ASSERT_TRUE(rendezvous.ok());
    std::stop_source stop;
    const absl::Time start = absl::Now();
    std::promise<void> begins;
    absl::Status error;
    std::thread joins([&] {
      begins.set_value();
      error = world_->factory(0)
                  .Join(*rendezvous, 0, world_size(), kLong, stop.get_token())
                  .status();  // the others never come
    });
    begins.get_future().wait();
    for (int spin = Int(0, 2000); spin > 0; --spin) std::this_thread::yield();
    stop.request_stop();
    joins.join();
    EXPECT_EQ(error.code(), absl::StatusCode::kAborted) << error;
    EXPECT_LT(absl::Now() - start, kPrompt);
  }
}

TEST_P(CollectiveContractTest, ARendezvousIsGoodForOneGroup) {
  if (!GetParam().family.refuses_used_rendezvous) GTEST_SKIP() << "not promised";
  MakeWorld(kLong);
  const auto rendezvous = world_->factory(0).MakeRendezvous();
  ASSERT_TRUE(rendezvous.ok());
  std::vector<std::unique_ptr<Collective>> groups(world_size());
  OnEachRank([&](int rank) {
    auto group = world_->factory(rank).Join(*rendezvous, rank, world_size(), kLong, {});
    ASSERT_TRUE(group.ok()) << group.status();
    groups[rank] = *std::move(group);
  });
  EXPECT_FALSE(world_->factory(0).Join(*rendezvous, 0, world_size(), kLong, {}).ok());
}

TEST_P(CollectiveContractTest, JoinRefusesARankOutOfRange) {
  MakeWorld(kLong);
  const auto rendezvous = world_->factory(0).MakeRendezvous();
  ASSERT_TRUE(rendezvous.ok());
  for (const int rank : {-1, world_size()}) {
    EXPECT_EQ(world_->factory(0).Join(*rendezvous, rank, world_size(), kLong, {}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(world_->factory(0).Join(*rendezvous, 0, 0, kLong, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_P(CollectiveContractTest, JoinRefusesARendezvousThatNobodyMade) {
  MakeWorld(kLong);
  for (const std::string& bad : {std::string(), std::string("nonsense"), std::string(5000, 'x')}) {
    EXPECT_FALSE(world_->factory(0).Join(bad, 0, world_size(), kLong, {}).ok());
  }
}

}  // namespace
}  // namespace pregate
