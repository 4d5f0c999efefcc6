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

TEST(ParseAddressTest, TakesNothingForAHostThatGrpcMightReadAsAScheme) {
  for (const char* text : {"dns:///x:1", "unix-abstract:a:1", "a/b:1", "a b:1", "[::1%eth0]:1",
                           "[x:y]:1", "ipv4:10.0.0.1:1", "a\n:1", "http://a:1"}) {
    EXPECT_FALSE(ParseAddress(text).ok()) << text;
  }
}

TEST(ParseAddressTest, TakesNoZeroByteWhereOthersWouldStopReading) {
  for (const char* text : {"[::1]:1", "unix:/a", "localhost:1"}) {
    for (size_t at = 1; at <= std::string(text).size(); ++at) {
      std::string with_zero(text);
      with_zero.insert(at, 1, '\0');
      EXPECT_FALSE(ParseAddress(with_zero).ok()) << text << " at " << at;
    }
  }
}

TEST(ParseAddressOptionTest, PlaintextIsRefusedByOptionOnOtherMachines) {
  for (const char* text : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "127.evil.example:1",
                           "example.com:1", "127.0.0.1.example.com:1"}) {
    const auto address = ParseAddressOption("listen", text, /*encrypted=*/false);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("--listen"));
    EXPECT_THAT(std::string(address.status().message()), HasSubstr("--tls-dir"));
    EXPECT_TRUE(ParseAddressOption("listen", text, /*encrypted=*/true).ok()) << text;
  }
  for (const char* text : {"127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "localhost:1", "unix:/a"}) {
    EXPECT_TRUE(ParseAddressOption("listen", text, /*encrypted=*/false).ok()) << text;
  }
  EXPECT_FALSE(ParseAddressOption("listen", "no-port", /*encrypted=*/true).ok());
}

TEST(AddressTest, WildcardsAreNotLoopback) {
  EXPECT_TRUE(ParseAddress("0.0.0.0:1")->is_wildcard());
  EXPECT_TRUE(ParseAddress("[::]:1")->is_wildcard());
  EXPECT_FALSE(ParseAddress("127.0.0.1:1")->is_wildcard());
}

}  // namespace
}  // namespace pregate
