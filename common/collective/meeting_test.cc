#include "common/collective/meeting.h"

#include <future>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using Blobs = absl::StatusOr<std::vector<std::string>>;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Optional;

class RendezvousTableTest : public testing::Test {
 protected:
  // Where the answer of this Enter will be; nullopt while it waits.
  struct Guest {
    RendezvousTable::Ticket ticket = 0;
    std::optional<Blobs> answer;
    absl::StatusCode code() const {
      return answer.has_value() ? answer->status().code() : absl::StatusCode::kUnknown;
    }
  };
  std::shared_ptr<Guest> Enter(const std::string& token, int rank, int world_size,
                               const std::string& blob) {
    auto guest = std::make_shared<Guest>();
    guest->ticket = table_.Enter(token, rank, world_size, blob, [guest](Blobs blobs) {
      EXPECT_FALSE(guest->answer.has_value()) << "answered twice";
      guest->answer = std::move(blobs);
    });
    return guest;
  }

  RendezvousTable table_{{.meetings_max = 2, .world_size_max = 4, .blob_bytes_max = 8}};
};

TEST_F(RendezvousTableTest, GivesEveryRankAllBlobsWhenTheLastOneEnters) {
  const std::string token = table_.Open();
  const auto one = Enter(token, 1, 2, "b");
  EXPECT_FALSE(one->answer.has_value());
  const auto zero = Enter(token, 0, 2, "a");
  ASSERT_EQ(one->code(), absl::StatusCode::kOk);
  ASSERT_EQ(zero->code(), absl::StatusCode::kOk);
  EXPECT_THAT(**one->answer, ElementsAre("a", "b"));
  EXPECT_THAT(**zero->answer, ElementsAre("a", "b"));
}

TEST_F(RendezvousTableTest, TokensAre128RandomBits) {
  const std::string token = table_.Open();
  EXPECT_EQ(token.size(), 32u);
  EXPECT_EQ(token.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(token, table_.Open());
}

TEST_F(RendezvousTableTest, RefusesWhatIsOutOfBoundsAndTheOthersGoOn) {
  const std::string token = table_.Open();
  const auto zero = Enter(token, 0, 2, "a");
  EXPECT_EQ(Enter("elsewhere", 1, 2, "b")->code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Enter(token, 2, 2, "b")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, -1, 2, "b")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, 1, 3, "b")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, 1, 5, "b")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, 0, 0, "b")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, 1, 2, "123456789")->code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Enter(token, 0, 2, "again")->code(), absl::StatusCode::kAlreadyExists);
  EXPECT_FALSE(zero->answer.has_value());
  EXPECT_EQ(Enter(token, 1, 2, "12345678")->code(), absl::StatusCode::kOk);
  EXPECT_EQ(zero->code(), absl::StatusCode::kOk);
}

TEST_F(RendezvousTableTest, LeaveEndsTheMeetingForAllAndNamesTheMissing) {
  const std::string token = table_.Open();
  const auto zero = Enter(token, 0, 4, "a");
  const auto two = Enter(token, 2, 4, "c");
  table_.Leave(two->ticket, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(zero->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(zero->answer->status().message(), HasSubstr("did not come: 1, 3"));
  EXPECT_EQ(two->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Enter(token, 1, 4, "b")->code(), absl::StatusCode::kNotFound);
}

TEST_F(RendezvousTableTest, LeaveAfterTheEndDoesNothing) {
  const std::string token = table_.Open();
  const auto alone = Enter(token, 0, 1, "a");
  const std::string other = table_.Open();
  const auto waits = Enter(other, 0, 2, "a");
  table_.Leave(alone->ticket, absl::StatusCode::kCancelled);
  EXPECT_FALSE(waits->answer.has_value());
}

TEST_F(RendezvousTableTest, TheOldestMeetingMakesRoomForANewOne) {
  const std::string oldest = table_.Open();
  const auto waits = Enter(oldest, 0, 2, "a");
  const std::string second = table_.Open();
  table_.Open();
  EXPECT_EQ(waits->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Enter(oldest, 1, 2, "b")->code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Enter(second, 0, 1, "a")->code(), absl::StatusCode::kOk);
}

TEST(InProcessMeetingTest, ThreadsMeet) {
  InProcessMeeting meeting;
  const auto rendezvous = meeting.MakeRendezvous();
  ASSERT_TRUE(rendezvous.ok());
  auto one = std::async(std::launch::async, [&] {
    return meeting.Meet(*rendezvous, 1, 2, "b", absl::Seconds(60), {});
  });
  const Blobs zero = meeting.Meet(*rendezvous, 0, 2, "a", absl::Seconds(60), {});
  ASSERT_TRUE(zero.ok()) << zero.status();
  EXPECT_THAT(*zero, ElementsAre("a", "b"));
  EXPECT_EQ(one.get(), zero);
}

TEST(InProcessMeetingTest, TimeoutNamesTheMissingRanks) {
  InProcessMeeting meeting;
  const auto rendezvous = meeting.MakeRendezvous();
  const Blobs zero = meeting.Meet(*rendezvous, 0, 3, "a", absl::Milliseconds(20), {});
  EXPECT_EQ(zero.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(zero.status().message(), HasSubstr("did not come: 1, 2"));
}

}  // namespace
}  // namespace pregate
