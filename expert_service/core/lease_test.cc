#include "expert_service/core/lease.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kTerm = absl::Seconds(5);
constexpr Epoch kAheadMax = 1000;

class LeaseTest : public testing::Test {
 protected:
  absl::Status Take(LinkId link, const std::string& scheduler, Epoch epoch) {
    return lease_.Take({link, scheduler, epoch}, now_);
  }
  Lease lease_{kTerm, kAheadMax};
  absl::Time now_ = absl::UnixEpoch();
};

TEST_F(LeaseTest, OneSchedulerHoldsAndTheOtherIsRefusedByName) {
  EXPECT_TRUE(Take(1, "first", 1).ok());
  const absl::Status refused = Take(2, "second", 2);
  EXPECT_TRUE(absl::IsPermissionDenied(refused));
  EXPECT_THAT(refused.message(), HasSubstr("scheduler 'first' holds this worker"));
  EXPECT_TRUE(Take(1, "first", 2).ok());
  EXPECT_EQ(lease_.held().link, 1u);
}

TEST_F(LeaseTest, AnEndedStreamFreesAtOnceAndOnlyTheHoldersDoes) {
  EXPECT_TRUE(Take(1, "first", 1).ok());
  EXPECT_FALSE(lease_.Release(2));
  EXPECT_TRUE(absl::IsPermissionDenied(Take(2, "second", 2)));
  EXPECT_TRUE(lease_.Release(1));
  EXPECT_FALSE(lease_.Release(1));
  EXPECT_TRUE(Take(2, "second", 2).ok());
}

TEST_F(LeaseTest, SilenceLosesItOnlyToOneWhoAsks) {
  EXPECT_TRUE(Take(1, "first", 1).ok());
  now_ += kTerm - absl::Milliseconds(1);
  EXPECT_TRUE(absl::IsPermissionDenied(Take(2, "second", 2)));
  lease_.Renew(2, now_);  // not the holder's
  lease_.Renew(1, now_);
  now_ += kTerm - absl::Milliseconds(1);
  EXPECT_TRUE(absl::IsPermissionDenied(Take(2, "second", 2)));
  now_ += absl::Hours(1);
  EXPECT_TRUE(Take(1, "first", 2).ok()) << "nobody asked meanwhile";
  now_ += kTerm;
  EXPECT_TRUE(Take(2, "second", 2).ok());
  EXPECT_TRUE(absl::IsPermissionDenied(Take(1, "first", 3))) << "it wakes up";
}

TEST_F(LeaseTest, ASchedulersNewStreamTakesOverFromItsOld) {
  EXPECT_TRUE(Take(1, "first", 1).ok());
  EXPECT_TRUE(Take(2, "first", 2).ok());
  EXPECT_FALSE(lease_.Release(1)) << "the old one ends late";
  EXPECT_EQ(lease_.held().link, 2u);
}

TEST_F(LeaseTest, EpochsOfOneSchedulerAscend) {
  EXPECT_TRUE(Take(1, "first", 5).ok());
  for (const Epoch epoch : {4, 5}) {
    const absl::Status refused = Take(1, "first", epoch);
    EXPECT_TRUE(absl::IsFailedPrecondition(refused));
    EXPECT_THAT(refused.message(), HasSubstr("is not above 5, which scheduler 'first' formed"));
  }
  lease_.Release(1);
  EXPECT_FALSE(Take(2, "first", 5).ok());
  EXPECT_TRUE(Take(2, "first", 6).ok());
}

TEST_F(LeaseTest, NoEpochShutsOutTheNextScheduler) {
  constexpr Epoch kMax = std::numeric_limits<Epoch>::max();
  Epoch highest = 0;
  for (const Epoch epoch : {Epoch{0}, kMax, kMax / 2 + 1, kAheadMax + 1}) {
    const absl::Status refused = Take(1, "evil", epoch);
    EXPECT_TRUE(absl::IsOutOfRange(refused));
    EXPECT_THAT(refused.message(), HasSubstr(std::to_string(epoch)));
  }
  // As far as it may, again and again.
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Take(1, "evil", highest += kAheadMax).ok());
  lease_.Release(1);
  EXPECT_TRUE(Take(2, "honest", 7).ok());
  EXPECT_TRUE(Take(2, "honest", 8).ok());
}

}  // namespace
}  // namespace pregate
