#include "common/http/listen_socket.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

Address SocketAt(const char* name) {
  return {.path = absl::StrCat("/tmp/pregate-", getpid(), "-listen-", name)};
}

TEST(ListenTest, ATakenPortIsRefusedByName) {
  const auto first = Listen({.host = "127.0.0.1"});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT(first->bound.port, 0);
  const auto second = Listen(first->bound);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat(first->bound.ToString(),
                                     " cannot be bound: another process listens there")));
}

TEST(ListenTest, ALivingUnixSocketIsNeverTaken) {
  const Address address = SocketAt("living");
  auto first = Listen(address);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_FALSE(Listen(address).ok());
  EXPECT_TRUE(std::filesystem::exists(address.path));
  { const ListenSockets gone = *std::move(first); }
  EXPECT_FALSE(std::filesystem::exists(address.path));
}

TEST(ListenTest, AStaleUnixSocketIsReplacedAndAFileIsNot) {
  const Address address = SocketAt("stale");
  {
    const UniqueFd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, address.path.data(), address.path.size());
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
  }
  EXPECT_TRUE(Listen(address).ok());
  std::ofstream(address.path) << "text";
  EXPECT_FALSE(Listen(address).ok());
  EXPECT_TRUE(std::filesystem::remove(address.path));
}

TEST(ListenTest, OfManyAtOnceOneGetsTheUnixSocket) {
  const Address address = SocketAt("race");
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    std::vector<absl::StatusOr<ListenSockets>> sockets;
    for (int i = 0; i < 8; ++i) sockets.emplace_back(absl::UnknownError("not run"));
    for (int i = 0; i < 8; ++i) threads.emplace_back([&, i] { sockets[i] = Listen(address); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(std::count_if(sockets.begin(), sockets.end(), [](auto& s) { return s.ok(); }), 1);
  }
}

TEST(ListenTest, TheWildcardTakesBothFamilies) {
  const auto sockets = Listen({.host = "::"});
  if (!sockets.ok()) GTEST_SKIP() << sockets.status();  // a machine without IPv6
  const UniqueFd client(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to = {.sin_family = AF_INET,
                    .sin_port = htons(static_cast<uint16_t>(sockets->bound.port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(client.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
}

}  // namespace
}  // namespace pregate
