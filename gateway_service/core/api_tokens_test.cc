#include "gateway_service/core/api_tokens.h"

#include "common/base/hash.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json Entry(const std::string& token, json more = json::object()) {
  json entry = {{"sha256", Sha256Hex(token)}, {"tenant", "t-" + token}};
  entry.update(more);
  return entry;
}

TEST(ApiTokensTest, FindsATokenByItsHash) {
  const auto tokens = ApiTokens::From(
      {{"tokens",
        {Entry("a"),
         Entry("b", {{"priority", -3}, {"concurrent_max", 2}, {"tokens_per_minute", 60}})}}},
      "f");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ(tokens->Find("a")->tenant, "t-a");
  EXPECT_EQ(tokens->Find("b")->priority, -3);
  EXPECT_EQ(tokens->Find("b")->concurrent_max, 2);
  EXPECT_EQ(tokens->Find("c"), nullptr);
  EXPECT_EQ(tokens->Find(""), nullptr);
  EXPECT_EQ(tokens->Find(Sha256Hex("a")), nullptr) << "who reads the file has no token";
}

TEST(ApiTokensTest, MistakesAreNamedAndHashesAreNot) {
  const auto error = [](const json& file) {
    const auto tokens = ApiTokens::From(file, "f.json");
    EXPECT_FALSE(tokens.ok()) << file;
    EXPECT_THAT(std::string(tokens.status().message()), HasSubstr("f.json"));
    return std::string(tokens.status().message());
  };
  EXPECT_THAT(error({{"tokens", {Entry("a", {{"sha256", "ABC"}})}}}),
              HasSubstr("tokens[0].sha256"));
  EXPECT_THAT(error({{"tokens", {Entry("a"), Entry("a")}}}), HasSubstr("tokens[1] is there twice"));
  EXPECT_THAT(error({{"tokens", {Entry("a", {{"tenent", "x"}})}}}), HasSubstr("tenent"));
  EXPECT_THAT(error({{"tokens", {Entry("a", {{"concurrent_max", -1}})}}}),
              HasSubstr("concurrent_max is -1"));
  EXPECT_THAT(error({{"tokens", {{{"tenant", "x"}}}}}), HasSubstr("no sha256"));
  for (const char* bad :
       {"[]", "3", "{}", R"({"tokens": {}})", R"({"tokens": [], "x": 1})", R"({"tokens": [7]})"}) {
    error(json::parse(bad));
  }
  const std::string hash = Sha256Hex("a");
  EXPECT_EQ(error({{"tokens", {Entry("a"), Entry("a")}}}).find(hash), std::string::npos);
}

TEST(ApiTokensTest, BearerSchemeInAnyCase) {
  EXPECT_EQ(BearerToken("Bearer abc"), "abc");
  EXPECT_EQ(BearerToken("bearer  abc "), "abc");
  EXPECT_EQ(BearerToken("Basic abc"), "");
  EXPECT_EQ(BearerToken(""), "");
}

}  // namespace
}  // namespace pregate::gateway
