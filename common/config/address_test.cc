#include "common/config/address.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

TEST(ParseAddressTest, ParsesBackEqual) {
  for (const char* text : {"127.0.0.1:7600", "[::1]:0", "localhost:65535", "unix:/run/a.sock",
                           "example.com:80", "10.0.0.1:1"}) {
    const auto address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
  }
}

TEST(ParseAddressTest, NamesWhatIsWrong) {
  const struct {
    std::string text;
    const char* why;
  } kCases[] = {{"", "no port"},
                {"localhost", "no port"},
                {":1", "no host"},
                {"a:65536", "port"},
                {"a:-1", "port"},
                {"a:x", "port"},
                {"[::1:80", "brackets"},
                {"unix:", "empty"},
                {"unix:/" + std::string(200, 'x'), "201 bytes"}};
  for (const auto& c : kCases) {
    const auto address = ParseAddress(c.text);
    ASSERT_FALSE(address.ok()) << c.text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr(c.why)) << c.text;
  }
}

TEST(RequireLocalTest, RefusesOtherMachinesByOption) {
  for (const char* text : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "127.evil.example:1",
                           "example.com:1", "127.0.0.1.example.com:1"}) {
    const auto address = RequireLocal("listen", text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("--listen"));
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("TLS"));
  }
  for (const char* text : {"127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "localhost:1", "unix:/a"}) {
    EXPECT_TRUE(RequireLocal("listen", text).ok()) << text;
  }
}

}  // namespace
}  // namespace pregate
