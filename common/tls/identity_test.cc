#include "common/tls/identity.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr char kDomain[] = "pregate.internal";

TEST(IdentityTest, EveryRoleParsesBack) {
  for (const Role role : AllRoles()) {
    const auto parsed = ParseIdentity(IdentityUri(kDomain, role), kDomain);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, role);
    EXPECT_TRUE(RoleSet::All().Has(role));
    EXPECT_TRUE(RoleSet{role}.Has(role));
    EXPECT_FALSE(RoleSet{}.Has(role));
  }
  EXPECT_EQ((RoleSet{Role::kOperator, Role::kClient}).ToString(), "client or operator");
}

TEST(IdentityTest, RefusalsSayWhatIsWrong) {
  const struct {
    std::string uri;
    const char* why;
  } kCases[] = {
      {"", "not a spiffe"},
      {"https://pregate.internal/pregate/router", "not a spiffe"},
      {"SPIFFE://pregate.internal/pregate/router", "not a spiffe"},
      {"spiffe://pregate.internal", "no path"},
      {"spiffe://other.internal/pregate/router", "wrong trust domain"},
      {"spiffe://pregate.internal.evil/pregate/router", "wrong trust domain"},
      {"spiffe://evil@pregate.internal/pregate/router", "wrong trust domain"},
      {"spiffe:///pregate/router", "wrong trust domain"},
      {"spiffe://pregate.internal/router", "not /pregate/ROLE"},
      {"spiffe://pregate.internal//pregate/router", "not /pregate/ROLE"},
      {"spiffe://pregate.internal/pregate/", "unknown role"},
      {"spiffe://pregate.internal/pregate/Router", "unknown role"},
      {"spiffe://pregate.internal/pregate/router/", "unknown role"},
      {"spiffe://pregate.internal/pregate/router?x", "unknown role"},
      {std::string("spiffe://pregate.internal/pregate/router\0", 41), "unknown role"},
      {"spiffe://pregate.internal/pregate/" + std::string(100000, 'x'), "unknown role"},
  };
  for (const auto& c : kCases) {
    const auto role = ParseIdentity(c.uri, kDomain);
    ASSERT_FALSE(role.ok()) << c.uri;
    EXPECT_EQ(role.status().code(), absl::StatusCode::kPermissionDenied);
    EXPECT_THAT(std::string(role.status().message()), HasSubstr(c.why)) << c.uri;
    EXPECT_LT(role.status().message().size(), 1000u);
  }
}

TEST(IdentityTest, LogsNoControlCharactersOfAPeer) {
  const auto role = ParseIdentity("spiffe://a/\n\x1b[31mfake log line", kDomain);
  EXPECT_EQ(role.status().message().find_first_of("\n\x1b"), std::string::npos);
}

TEST(IdentityTest, TrustDomainsAreLowerCaseNames) {
  for (const char* good : {"a", "pregate.internal", "x-1_y.z"}) {
    EXPECT_TRUE(CheckTrustDomain(good).ok()) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("A"), std::string("a/b"), std::string("a b"), std::string("a:1"),
        std::string("ä"), std::string(256, 'a')}) {
    EXPECT_FALSE(CheckTrustDomain(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace pregate
