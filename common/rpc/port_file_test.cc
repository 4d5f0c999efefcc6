#include "common/rpc/port_file.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate {
namespace {

TEST(PortFileTest, WritesAddressesAndReplacesWhatWasThere) {
  const std::string path = ::testing::TempDir() + "/ports.json";
  std::ofstream(path) << "old";
  ASSERT_TRUE(WritePortFile(path, {{"listen", "127.0.0.1:1"}, {"metrics", "127.0.0.1:2"}}).ok());
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["listen"], "127.0.0.1:1");
  EXPECT_EQ(json["metrics"], "127.0.0.1:2");
  EXPECT_GT(json["pid"], 0);
}

TEST(PortFileTest, NamesAFileThatCannotBeWritten) {
  const absl::Status status = WritePortFile("/nonexistent/ports.json", {});
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("/nonexistent/ports.json"));
  EXPECT_TRUE(WritePortFile("", {}).ok());
}

}  // namespace
}  // namespace pregate
