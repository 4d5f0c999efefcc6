#include "common/rpc/listen_check.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/rpc/rpc_server.h"
#include "common/telemetry/log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<RpcServer>> Serve(const std::string& listen) {
  return RpcServer::Start({.listen = *ParseAddress(listen), .message_bytes_max = 1 << 20}, {},
                          [] { return true; });
}

class ListenCheckTest : public ::testing::Test {
 protected:
  ListenCheckTest() {
    std::string pattern = ::testing::TempDir() + "/listen-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    security_ = *Security::Load({}, RoleSet::All(), &log_, &clock_);
  }
  ~ListenCheckTest() override { std::filesystem::remove_all(dir_); }

  std::string Check(const std::string& listen, const std::string& metrics = "127.0.0.1:0") {
    return std::string(CheckListenOptions(*security_, listen, metrics, "").message());
  }

  SystemClock clock_;
  const Log log_{"test", {.level = "error"}};
  std::unique_ptr<Security> security_;
  std::string dir_;
};

TEST_F(ListenCheckTest, ALivingServerKeepsItsPort) {
  const auto first = Serve("127.0.0.1:0");
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string taken = (*first)->bound().ToString();
  const std::string port = taken.substr(taken.rfind(':'));
  for (const std::string& listen : {taken, "localhost" + port}) {
    const auto second = Serve(listen);
    ASSERT_FALSE(second.ok()) << listen;
    EXPECT_THAT(std::string(second.status().message()), HasSubstr(listen));
    EXPECT_THAT(Check(listen), HasSubstr("--listen: " + listen + " cannot be bound: another"));
    EXPECT_THAT(Check("127.0.0.1:0", listen), HasSubstr("--metrics-listen: " + listen));
  }
}

TEST_F(ListenCheckTest, ALivingServerKeepsItsSocket) {
  const std::string listen = absl::StrCat("unix:", dir_, "/door");
  const auto first = Serve(listen);
  ASSERT_TRUE(first.ok()) << first.status();
  for (int i = 0; i < 3; ++i) {
    const auto second = Serve(listen);
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("another process listens there"));
  }
  EXPECT_THAT(Check(listen), HasSubstr("--listen: unix:"));
}

TEST_F(ListenCheckTest, WhatAKilledServerLeftIsNoHindrance) {
  const std::string path = dir_ + "/door", listen = "unix:" + path;
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un at = {.sun_family = AF_UNIX};
  path.copy(at.sun_path, sizeof(at.sun_path) - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  EXPECT_FALSE(Serve(listen).ok());
  close(fd);
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(Check(listen), "");
  EXPECT_TRUE(Serve(listen).ok());
}

TEST_F(ListenCheckTest, NamesWhatCannotBeBound) {
  std::ofstream(dir_ + "/file") << "x";
  EXPECT_THAT(Check("unix:" + dir_ + "/file"), HasSubstr("a file that is no socket"));
  EXPECT_EQ(std::filesystem::file_size(dir_ + "/file"), 1u);
  EXPECT_THAT(Check("unix:" + dir_ + "/no/door"), HasSubstr("No such file"));
  EXPECT_THAT(Check("127.0.0.1:1", "127.0.0.1:1"), HasSubstr("is what --listen says"));
  EXPECT_THAT(Check("nonsense"), HasSubstr("--listen: 'nonsense'"));
  EXPECT_THAT(Check("127.0.0.1:0", "unix:/x"), HasSubstr("--metrics-listen: unix:/x"));
  EXPECT_EQ(Check("localhost:0", "[::1]:0"), "");
}

}  // namespace
}  // namespace pregate
