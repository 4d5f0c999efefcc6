#include "common/rpc/router_codec.h"

#include <google/protobuf/util/message_differencer.h>

#include <random>

#include "common/rpc/testing/random_proto.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::FillRandom;
using ::testing::HasSubstr;

absl::StatusOr<v1::RouteRequest> RoundTrip(const v1::RouteRequest& message) {
  const auto decoded = DecodeToRouter(message);
  if (!decoded.ok()) return decoded.status();
  return EncodeToRouter(*decoded);
}

absl::StatusOr<v1::RouteResponse> RoundTrip(const v1::RouteResponse& message) {
  const auto decoded = DecodeFromRouter(message);
  if (!decoded.ok()) return decoded.status();
  return EncodeFromRouter(*decoded);
}

// An error without a text is no valid message, and random text may be empty.
void GiveErrorsAText(v1::RouteRequest*) {}
void GiveErrorsAText(v1::RouteResponse* response) {
  if (response->has_error() && response->error().message().empty()) {
    response->mutable_error()->set_message("reason");
  }
}

template <typename Proto>
class RouterCodecTest : public ::testing::Test {};
using Directions = ::testing::Types<v1::RouteRequest, v1::RouteResponse>;
TYPED_TEST_SUITE(RouterCodecTest, Directions);

TYPED_TEST(RouterCodecTest, EveryFieldComesBackEqual) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    TypeParam message;
    FillRandom(&message, random, {});
    GiveErrorsAText(&message);
    const auto back = RoundTrip(message);
    ASSERT_TRUE(back.ok()) << back.status() << "\n" << message.DebugString();
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(message, *back))
        << message.DebugString();
  }
}

TYPED_TEST(RouterCodecTest, TakesOrRefusesAnyBytesWithoutHarm) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  int refused = 0, taken = 0;
  for (int i = 0; i < 2000; ++i) {
    TypeParam message;
    FillRandom(&message, random, {.wild = i % 2 == 0});
    TypeParam parsed;
    if (!parsed.ParseFromString(testing::Mutate(message.SerializeAsString(), random))) continue;
    const auto back = RoundTrip(parsed);
    back.ok() ? ++taken : ++refused;
    if (!back.ok()) {
      EXPECT_EQ(back.status().code(), absl::StatusCode::kInvalidArgument);
    }
  }
  EXPECT_GT(taken, 0);
  EXPECT_GT(refused, 0);
}

TEST(RouterCodecFieldsTest, NamesTheFieldAtFault) {
  EXPECT_THAT(std::string(DecodeToRouter({}).status().message()), HasSubstr("message is not set"));
  EXPECT_THAT(std::string(DecodeFromRouter({}).status().message()),
              HasSubstr("message is not set"));

  v1::RouteResponse hello;
  hello.mutable_hello()->set_vocab_size(10);
  EXPECT_EQ(DecodeFromRouter(hello).status().message(), "hello.num_experts is 0, not 1 to 256");

  v1::RouteResponse routes;
  routes.mutable_routes()->add_routes(-1);
  EXPECT_EQ(DecodeFromRouter(routes).status().message(), "routes.routes is -1, not 0 to 255");
  routes.mutable_routes()->mutable_routes()->Resize(kRouteTokensMax + 1, 0);
  EXPECT_EQ(DecodeFromRouter(routes).status().message(),
            "routes.routes has 8193 entries, at most 8192");

  v1::RouteResponse gap;
  gap.mutable_gap()->set_have(-5);
  EXPECT_THAT(std::string(DecodeFromRouter(gap).status().message()), HasSubstr("gap.have is -5"));

  v1::RouteResponse error;
  error.mutable_error();
  EXPECT_EQ(DecodeFromRouter(error).status().message(), "error.message is empty");
}

}  // namespace
}  // namespace pregate
