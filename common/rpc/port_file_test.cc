#include "common/rpc/port_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

using ::testing::HasSubstr;

TEST(PortFileTest, WritesAddressesAndReplacesWhatWasThere) {
  const std::string path = ::testing::TempDir() + "/ports.json";
  std::ofstream(path) << "old";
  auto port_file = PortFile::Claim(path);
  ASSERT_TRUE(port_file.ok()) << port_file.status();
  ASSERT_TRUE(port_file->Write({{"listen", "127.0.0.1:1"}, {"metrics", "127.0.0.1:2"}}).ok());
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["listen"], "127.0.0.1:1");
  EXPECT_EQ(json["metrics"], "127.0.0.1:2");
  EXPECT_GT(json["pid"], 0);
}

TEST(PortFileTest, IsItsServersAsLongAsThatLives) {
  const std::string path = ::testing::TempDir() + "/owned.json";
  {
    PortFile kept;
    {
      auto port_file = PortFile::Claim(path);
      ASSERT_TRUE(port_file.ok() && port_file->Write({}).ok());
      kept = *std::move(port_file);
    }
    const auto second = PortFile::Claim(path);
    ASSERT_FALSE(second.ok());
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("--port-file: " + path));
  }
  EXPECT_TRUE(PortFile::Claim(path).ok());
  unlink(path.c_str());
}

TEST(PortFileTest, NamesAFileThatCannotBeWritten) {
  const absl::Status status = PortFile::Claim("/nonexistent/ports.json")->Write({});
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/ports.json"));
  EXPECT_TRUE(PortFile().Write({}).ok());
  EXPECT_FALSE(PortFile::Claim("/dev/full")->Write({}).ok());
}

}  // namespace
}  // namespace pregate
