// Gloo between two real processes, and when one of them dies. The child is forked before Gloo
// starts a thread; a socket pair is their meeting.
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "common/collective/gloo/gloo_factory.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr absl::Duration kPrompt = absl::Seconds(10);  // a death is seen at once, not at kLong
constexpr size_t kBlobBytes = 1024;

// Two ranks, each with one end of a socket pair.
class SocketMeeting final : public Meeting {
 public:
  explicit SocketMeeting(int fd) : fd_(fd) {}
  absl::StatusOr<std::string> MakeRendezvous() override { return std::string(); }
  absl::StatusOr<std::vector<std::string>> Meet(const std::string& rendezvous, int rank,
                                                int world_size, const std::string& blob,
                                                absl::Duration timeout,
                                                std::stop_token stop) override {
    std::string theirs(blob.size(), '\0');
    if (write(fd_, blob.data(), blob.size()) != ssize_t(blob.size()) ||
        recv(fd_, theirs.data(), theirs.size(), MSG_WAITALL) != ssize_t(theirs.size())) {
      return absl::UnavailableError("socket pair");
    }
    std::vector<std::string> blobs = {blob, theirs};
    if (rank == 1) std::swap(blobs[0], blobs[1]);
    return blobs;
  }

 private:
  const int fd_;
};

absl::Status Exchange(Collective& group, int rows, char value, char expected) {
  const std::vector<int32_t> offsets = {0, rows, 2 * rows};
  std::vector<char> send(2 * rows * kBlobBytes, value);
  std::vector<char> recv(send.size());
  absl::Status status = group.AllToAll(send.data(), offsets, recv.data(), offsets, kBlobBytes);
  const size_t theirs = group.rank() == 0 ? recv.size() - 1 : 0;
  if (status.ok() && recv[theirs] != expected) return absl::DataLossError("other bytes");
  return status;
}

class GlooProcessesTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends_), 0); }
  void TearDown() override {
    if (child_ > 0) kill(child_, SIGKILL);
    if (child_ > 0) waitpid(child_, nullptr, 0);
    close(ends_[0]);
  }

  // Rank 1 in a process of its own: joins, exchanges once, then runs `then`.
  void Fork(const std::function<int(Collective&)>& then) {
    child_ = fork();
    if (child_ == 0) {
      close(ends_[0]);
      const auto group = Join(ends_[1], 1);
      _exit(group != nullptr && Exchange(*group, 5, 'b', 'a').ok() ? then(*group) : 2);
    }
    close(ends_[1]);
    group_ = Join(ends_[0], 0);
    ASSERT_NE(group_, nullptr);
    ASSERT_EQ(Exchange(*group_, 5, 'a', 'b'), absl::OkStatus());
  }
  // Until the other end closes, as it does when its process ends.
  void AwaitEnd(int fd) {
    char byte;
    while (read(fd, &byte, 1) > 0) {
    }
  }
  std::unique_ptr<Collective> Join(int fd, int rank) {
    SocketMeeting meeting(fd);
    auto factory = MakeGlooFactory({.operation_timeout = kLong}, &meeting);
    if (!factory.ok()) return nullptr;
    auto group = (*factory)->Join("", rank, 2, kLong, {});
    EXPECT_TRUE(group.ok()) << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }

  int ends_[2];
  pid_t child_ = -1;
  std::unique_ptr<Collective> group_;
};

TEST_F(GlooProcessesTest, TwoProcessesExchange) {
  Fork([&](Collective& group) {
    for (int i = 0; i < 100; ++i) {
      if (!Exchange(group, 1 + i % 9, char(i + 1), char(-i)).ok()) return 3;
    }
    AwaitEnd(ends_[1]);
    return 0;
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Exchange(*group_, 1 + i % 9, char(-i), char(i + 1)), absl::OkStatus());
  }
  EXPECT_EQ(group_->bytes_sent(), int64_t(kBlobBytes) * (5 + 45 * 11 + 1));
  shutdown(ends_[0], SHUT_WR);
  int status = -1;
  ASSERT_EQ(waitpid(child_, &status, 0), child_);
  child_ = -1;
  EXPECT_EQ(status, 0);
}

TEST_F(GlooProcessesTest, KilledPeerIsUnavailableAtOnce) {
  Fork([&](Collective&) {
    AwaitEnd(ends_[1]);
    return 0;
  });
  const absl::Time start = absl::Now();
  absl::Status error;
  std::thread waits([&] { error = Exchange(*group_, 5, 'a', 'b'); });  // the child never comes
  kill(child_, SIGKILL);
  waits.join();
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable) << error;
  EXPECT_LT(absl::Now() - start, kPrompt);
  EXPECT_EQ(Exchange(*group_, 1, 'a', 'b'), error);
}

TEST_F(GlooProcessesTest, PeerKilledBetweenOperationsIsUnavailableAtTheNext) {
  Fork([&](Collective&) {
    AwaitEnd(ends_[1]);
    return 0;
  });
  kill(child_, SIGKILL);
  AwaitEnd(ends_[0]);
  const absl::Time start = absl::Now();
  const absl::Status error = Exchange(*group_, 5, 'a', 'b');
  EXPECT_EQ(error.code(), absl::StatusCode::kUnavailable) << error;
  EXPECT_LT(absl::Now() - start, kPrompt);
}

}  // namespace
}  // namespace pregate
