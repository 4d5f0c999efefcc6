#include "bench/http2_calls.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kMethod[] = "/pregate.v1.Inference/Generate";

// Answers a request for n tokens with n messages, the last with a text of as many thousand bytes; for
// none with an error.
class CountService final : public v1::Inference::Service {
 public:
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const int32_t n = request->max_tokens();
    for (int32_t i = 1; i <= n; ++i) {
      v1::GenerateResponse response;
      response.mutable_tokens()->add_ids(i);
      if (i == n) response.mutable_tokens()->set_text(std::string(1000 * n, 'x'));
      writer->Write(response);
    }
    return n > 0 ? grpc::Status::OK : grpc::Status(grpc::StatusCode::NOT_FOUND, "nothing");
  }
};

class Http2CallsTest : public ::testing::Test {
 protected:
  Http2CallsTest() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
  }
  static std::string Request(int32_t tokens) {
    v1::GenerateRequest request;
    request.set_max_tokens(tokens);
    return request.SerializeAsString();
  }
  absl::StatusOr<Http2Calls> Connect() {
    return Http2Calls::Connect(absl::StrCat("127.0.0.1:", port_), kMethod);
  }

  CountService service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// One of them in more than one frame.
TEST_F(Http2CallsTest, MessagesOfManyCallsArriveInTheirOrder) {
  auto calls = Connect();
  ASSERT_TRUE(calls.ok()) << calls.status();
  constexpr int kCalls = 20;
  std::vector<std::vector<int32_t>> heard(2 * kCalls);
  std::vector<size_t> text_bytes(2 * kCalls);
  for (int call = 0; call < kCalls; ++call) calls->Open(call, Request(3 * call + 1));
  const absl::Status status =
      calls->Run({.on_message =
                      [&](int call, absl::string_view message) {
                        v1::GenerateResponse response;
                        ASSERT_TRUE(response.ParseFromString(std::string(message)));
                        heard[call].push_back(response.tokens().ids(0));
                        text_bytes[call] += response.tokens().text().size();
                      },
                  .on_end = [&](int call) {  // each opens one more
                    if (call < kCalls) calls->Open(kCalls + call, Request(2));
                  }});
  ASSERT_TRUE(status.ok()) << status;
  for (int call = 0; call < kCalls; ++call) {
    ASSERT_EQ(heard[call].size(), size_t(3 * call + 1));
    for (int i = 0; i <= 3 * call; ++i) ASSERT_EQ(heard[call][i], i + 1);
    EXPECT_EQ(text_bytes[call], size_t(1000 * (3 * call + 1)));
    EXPECT_THAT(heard[kCalls + call], ElementsAre(1, 2));
  }
}

// More than the connection's window at its beginning.
TEST_F(Http2CallsTest, RequestsWaitForTheWindow) {
  auto calls = Connect();
  ASSERT_TRUE(calls.ok()) << calls.status();
  v1::GenerateRequest request;
  request.set_max_tokens(1);
  request.set_text(std::string(10000, 'x'));
  for (int call = 0; call < 50; ++call) calls->Open(call, request.SerializeAsString());
  int num_ended = 0;
  const absl::Status status = calls->Run(
      {.on_message = [](int, absl::string_view) {}, .on_end = [&](int) { ++num_ended; }});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(num_ended, 50);
}

TEST_F(Http2CallsTest, AnotherStatusThanZeroIsAnError) {
  auto calls = Connect();
  ASSERT_TRUE(calls.ok()) << calls.status();
  calls->Open(0, Request(0));
  const absl::Status status =
      calls->Run({.on_message = [](int, absl::string_view) {}, .on_end = [](int) {}});
  EXPECT_THAT(std::string(status.message()), HasSubstr("status '5': nothing"));
}

}  // namespace
}  // namespace pregate
