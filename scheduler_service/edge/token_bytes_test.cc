#include "scheduler_service/edge/token_bytes.h"

#include <iostream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/rpc/message_bytes.h"
#include "gtest/gtest.h"
#include "scheduler_service/edge/inference_codec.h"
#include "scheduler_service/edge/testing/byte_model.h"

namespace pregate {
namespace {

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

class TokenBytesTest : public ::testing::Test {
 protected:
  TokenBytesTest() { std::cout << "seed " << seed_ << std::endl; }

  void ExpectProtobufsBytes(const TokensOut& out) {
    for (const bool has_routes : {false, true}) {
      v1::GenerateResponse response = EncodeTokens(out, has_routes, *model_.tokenizer);
      ASSERT_EQ(BytesOf(TokenBytes(out, has_routes)), BytesOf(ToBytes(&response)));
    }
  }
  // Of every length that a varint may have, and negative.
  int32_t RandomNumber() {
    return static_cast<int32_t>(random_() >> (32 + random_() % 32)) * (random_() % 4 == 0 ? -1 : 1);
  }
  std::string RandomText() {
    static const std::vector<std::string> kPieces = {"a",    "zwölf", "€",    "𝄞",
                                                     "\xC3", "\x80",  "\xFF", std::string(1, '\0')};
    std::string text;
    for (size_t i = random_() % 6; i > 0; --i) text += kPieces[random_() % kPieces.size()];
    return text;
  }

  const uint64_t seed_ = std::random_device()();
  std::mt19937_64 random_{seed_};
  const ServedModel model_ = testing::MakeByteModel();
};

TEST_F(TokenBytesTest, AreProtobufs) {
  for (int i = 0; i < 20000; ++i) {
    TokensOut out{.text = RandomText(), .index = random_() % 2 == 0 ? 0 : RandomNumber()};
    for (size_t n = random_() % 5; n > 0; --n) {
      out.tokens.push_back(RandomNumber());
      out.routes.push_back(RandomNumber());
    }
    ExpectProtobufsBytes(out);
  }
}

TEST_F(TokenBytesTest, AreProtobufsAtTheEdges) {
  constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  ExpectProtobufsBytes({});
  ExpectProtobufsBytes({.tokens = {0}});
  ExpectProtobufsBytes({.tokens = {kLeast, -1, 0, kMost}, .routes = {kLeast, -1, 0, kMost}});
  ExpectProtobufsBytes({.index = kLeast});
  // Lengths that take one, two and three bytes.
  for (const size_t size : {127, 128, 16383, 16384}) {
    ExpectProtobufsBytes({.tokens = std::vector<TokenId>(size, 300),
                          .routes = std::vector<ExpertId>(size, -1),
                          .text = std::string(size, 'x')});
  }
}

}  // namespace
}  // namespace pregate
