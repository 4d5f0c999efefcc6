#include "common/rpc/shutdown.h"

#include <signal.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

TEST(ShutdownSignalTest, FirstSignalEndsTheWait) {
  for (const int signal : {SIGTERM, SIGINT}) {
    ShutdownSignal shutdown;
    shutdown.BeginServing();
    kill(getpid(), signal);
    shutdown.Wait();
  }
}

TEST(ShutdownSignalTest, RequestEndsTheWaitAndMayRepeat) {
  ShutdownSignal shutdown;
  shutdown.Request();
  shutdown.Request();
  shutdown.Wait();
}

TEST(ShutdownSignalTest, SecondSignalExits) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ShutdownSignal shutdown;
        shutdown.BeginServing();
        kill(getpid(), SIGTERM);
        shutdown.Wait();
        kill(getpid(), SIGTERM);
        while (true) pause();
      },
      testing::ExitedWithCode(128 + SIGTERM), testing::_);
}

TEST(ShutdownSignalTest, WhileLoadingTheFirstSignalExits) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        ShutdownSignal shutdown;
        kill(getpid(), SIGINT);
        while (true) pause();
      },
      testing::ExitedWithCode(128 + SIGINT), testing::_);
}

}  // namespace
}  // namespace pregate
