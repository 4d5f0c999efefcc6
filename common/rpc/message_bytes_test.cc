// Whatever the text in a message was, the other end can read it.
#include "common/rpc/message_bytes.h"

#include <google/protobuf/util/message_differencer.h>

#include <iostream>
#include <random>

#include "common/base/utf8.h"
#include "common/rpc/status.h"
#include "common/rpc/testing/random_proto.h"
#include "gtest/gtest.h"
#include "pregate/v1/router.pb.h"
#include "pregate/v1/worker.pb.h"

namespace pregate {
namespace {

using google::protobuf::util::MessageDifferencer;

class MessageBytesTest : public ::testing::Test {
 protected:
  MessageBytesTest() { std::cout << "seed " << seed_ << std::endl; }

  std::string RandomText() {
    std::string text(random_() % 12, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }

  const uint64_t seed_ = std::random_device()();
  std::mt19937_64 random_{seed_};
};

TEST_F(MessageBytesTest, TextOfAnyBytesArrives) {
  int num_mended = 0;
  for (int i = 0; i < 2000; ++i) {
    v1::AttachResponse sent;
    testing::FillRandom(&sent, random_, {.wild = true});
    const std::string text = RandomText();
    sent.mutable_result()->mutable_status()->set_message(text);
    sent.mutable_result()->add_row_errors()->set_message(text);
    grpc::ByteBuffer bytes = ToBytes(&sent);
    v1::AttachResponse heard;
    ASSERT_EQ(FromBytes(&bytes, &heard), absl::OkStatus());
    ASSERT_EQ(heard.result().status().message(), ReplaceStrayBytes(text));
    ASSERT_TRUE(MessageDifferencer::Equals(sent, heard));
    num_mended += !IsUtf8(text);
  }
  EXPECT_GT(num_mended, 100);
}

// Rows have none; what stands beside them is looked at all the same.
TEST_F(MessageBytesTest, TextBesideRowsWithoutAnyArrives) {
  v1::AttachRequest sent;
  v1::StepPlan& plan = *sent.mutable_plan();
  for (int i = 0; i < 100; ++i) plan.add_rows()->add_tokens(i);
  for (const char* trace : {"ok", "\xFF\xC3", ""}) plan.add_add()->set_traceparent(trace);
  grpc::ByteBuffer bytes = ToBytes(&sent);
  v1::AttachRequest heard;
  ASSERT_EQ(FromBytes(&bytes, &heard), absl::OkStatus());
  EXPECT_EQ(heard.plan().add(1).traceparent(), ReplaceStrayBytes("\xFF\xC3"));
  EXPECT_EQ(heard.plan().rows_size(), 100);
}

TEST_F(MessageBytesTest, ValidTextIsNotTouched) {
  v1::RouteResponse sent;
  sent.mutable_error()->set_message("zwölf €, 𝄞");
  const v1::RouteResponse before = sent;
  MakeTextValid(&sent);
  EXPECT_TRUE(MessageDifferencer::Equals(sent, before));
}

TEST_F(MessageBytesTest, AnyBytesAreReadOrRefused) {
  int num_refused = 0;
  for (int i = 0; i < 2000; ++i) {
    v1::RouteResponse sent;
    testing::FillRandom(&sent, random_, {.wild = true});
    const std::string mutated = testing::Mutate(sent.SerializeAsString(), random_);
    const grpc::Slice slice(mutated);
    grpc::ByteBuffer bytes(&slice, 1);
    v1::RouteResponse heard;
    const absl::Status status = FromBytes(&bytes, &heard);
    EXPECT_EQ(status.ok(), v1::RouteResponse().ParseFromString(mutated));
    num_refused += absl::IsInvalidArgument(status);
  }
  EXPECT_GT(num_refused, 100);
}

TEST_F(MessageBytesTest, TheTextOfAStatusIsValidToo) {
  for (int i = 0; i < 2000; ++i) {
    const std::string text = RandomText();
    const grpc::Status status = ToGrpcStatus(absl::InternalError(text));
    EXPECT_EQ(status.error_message(), ReplaceStrayBytes(text));
  }
}

}  // namespace
}  // namespace pregate
