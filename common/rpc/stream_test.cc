// ServerStream and StreamDialer against each other, over ExpertWorker.Attach.
#include <unistd.h>

#include <atomic>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/mailbox.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/server_stream.h"
#include "common/rpc/stream_dialer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr char kMethod[] = "/pregate.v1.ExpertWorker/Attach";

// Says hello, then answers a plan by its number twice; a renewal is refused.
class EchoService final
    : public v1::ExpertWorker::WithRawCallbackMethod_Attach<v1::ExpertWorker::Service> {
 public:
  using Stream = ServerStream<v1::AttachRequest, v1::AttachResponse>;

  ServerBytesReactor* Attach(grpc::CallbackServerContext*) override {
    auto stream = std::make_shared<Stream>();
    Stream* const raw = stream.get();
    v1::AttachResponse hello;
    hello.mutable_hello()->set_protocol(7);
    stream->Begin({.on_message = [raw](const auto& request) { return Answer(raw, request); },
                   .on_closed =
                       [this](const absl::Status& why) {
                         ++num_closed;
                         whys.Push(std::string(why.message()));
                       }});
    stream->Send(hello);
    return raw;
  }

  std::atomic<int> num_closed{0};
  Mailbox<std::string> whys{1000};

 private:
  static absl::Status Answer(Stream* stream, const v1::AttachRequest& request) {
    if (request.has_renew()) return absl::FailedPreconditionError("no renewals here");
    for (int i = 0; i < 2; ++i) {
      v1::AttachResponse response;
      response.mutable_progress()->set_step_id(request.plan().step_id());
      stream->Send(response);
    }
    return absl::OkStatus();
  }
};

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

// Says hello, then `bytes`, and never ends a stream by itself.
class BadService final
    : public v1::ExpertWorker::WithRawCallbackMethod_Attach<v1::ExpertWorker::Service> {
 public:
  explicit BadService(std::string bytes) : bytes_(std::move(bytes)) {}

  ServerBytesReactor* Attach(grpc::CallbackServerContext*) override { return new Stream(bytes_); }

 private:
  class Stream final : public ServerBytesReactor {
   public:
    explicit Stream(const std::string& bytes) : bytes_(Bytes(bytes)) {
      v1::AttachResponse hello;
      hello.mutable_hello()->set_protocol(7);
      hello_ = ToBytes(&hello);
      StartWrite(&hello_);
    }

   private:
    void OnWriteDone(bool ok) override {
      if (ok && !std::exchange(sent_, true)) StartWrite(&bytes_);
    }
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }

    grpc::ByteBuffer hello_, bytes_;
    bool sent_ = false;
  };

  const std::string bytes_;
};

template <typename Service>
struct ServerOf {
  Service service;
  std::unique_ptr<RpcServer> rpc;

  template <typename... Args>
  explicit ServerOf(const Address& address, Args... args) : service(std::move(args)...) {
    auto started =
        RpcServer::Start({.listen = address, .message_bytes_max = kServiceMessageBytesMax},
                         {&service}, [] { return true; });
    EXPECT_TRUE(started.ok()) << started.status();
    rpc = *std::move(started);
  }
};
using Server = ServerOf<EchoService>;

// What the dialer said, in order: "hello 7", "progress 3", "down: ...", "failed: ...".
struct Client {
  Mailbox<std::string> heard{100000};
  std::unique_ptr<StreamDialer<v1::AttachResponse>> dialer;

  explicit Client(const Address& address) {
    using Dialer = StreamDialer<v1::AttachResponse>;
    dialer = std::make_unique<Dialer>(Dialer::Handlers{
        .open = OpenOn(MakeChannel(address, kServiceMessageBytesMax), kMethod),
        .on_message =
            [this](const v1::AttachResponse& response) {
              heard.Push(response.has_hello()
                             ? absl::StrCat("hello ", response.hello().protocol())
                             : absl::StrCat("progress ", response.progress().step_id()));
              return absl::OkStatus();
            },
        .on_down = [this](const auto& why) { heard.Push(absl::StrCat("down: ", why.message())); },
        .on_dial_failed =
            [this](const auto& why) { heard.Push(absl::StrCat("failed: ", why.message())); }});
  }

  void SendPlan(uint64_t step_id) {
    v1::AttachRequest request;
    request.mutable_plan()->set_step_id(step_id);
    dialer->Send(ToBytes(&request));
  }
  // Waits for a message that contains `text`, dropping what comes before it.
  bool Await(const std::string& text) {
    while (true) {
      const auto messages = heard.Wait(absl::Seconds(20));
      if (messages.empty()) return false;
      for (const std::string& message : messages) {
        if (absl::StrContains(message, text)) return true;
      }
    }
  }
};

Address SocketAddress(const char* name) {
  return {.path = absl::StrCat("/tmp/pregate-", getpid(), "-", name)};
}

TEST(StreamTest, CarriesMessagesBothWaysInOrder) {
  Server server({.host = "127.0.0.1"});
  Client client(server.rpc->bound());
  ASSERT_TRUE(client.Await("hello 7"));
  constexpr int kMessages = kLinkQueueMessages / 2;  // a burst that the queues must hold
  for (int i = 1; i <= kMessages; ++i) client.SendPlan(i);
  std::vector<std::string> heard;
  while (heard.size() < 2 * kMessages) {
    const auto messages = client.heard.Wait(absl::Seconds(20));
    ASSERT_FALSE(messages.empty());
    heard.insert(heard.end(), messages.begin(), messages.end());
  }
  for (int i = 0; i < 2 * kMessages; ++i) {
    ASSERT_EQ(heard[i], absl::StrCat("progress ", i / 2 + 1));
  }
}

TEST(StreamTest, DialsAgainAfterTheServerComesBack) {
  const Address address = SocketAddress("again");
  auto server = std::make_unique<Server>(address);
  Client client(address);
  ASSERT_TRUE(client.Await("hello"));
  server.reset();
  ASSERT_TRUE(client.Await("down"));
  server = std::make_unique<Server>(address);
  ASSERT_TRUE(client.Await("hello"));
  client.SendPlan(5);
  EXPECT_TRUE(client.Await("progress 5"));
}

TEST(StreamTest, KeepsDialingAServerThatIsNotThereYet) {
  const Address address = SocketAddress("late");
  Client client(address);
  ASSERT_TRUE(client.Await("failed"));
  Server server(address);
  EXPECT_TRUE(client.Await("hello"));
}

TEST(StreamTest, AnErrorOfTheHandlerEndsTheStreamWithItsText) {
  Server server({.host = "127.0.0.1"});
  Client client(server.rpc->bound());
  ASSERT_TRUE(client.Await("hello"));
  v1::AttachRequest renew;
  renew.mutable_renew();
  client.dialer->Send(ToBytes(&renew));
  EXPECT_TRUE(client.Await("down: no renewals here"));
}

// A response whose text is no UTF-8: gRPC alone would neither deliver it nor end the stream.
std::string UndecodableResponse() {
  v1::AttachResponse response;
  response.mutable_result()->mutable_status()->set_message("\xC3\x28");
  return response.SerializeAsString();
}

TEST(StreamTest, AMessageThatCannotBeDecodedEndsTheConnectionAndTheNextIsDialled) {
  const std::string bytes = UndecodableResponse();
  ServerOf<BadService> server({.host = "127.0.0.1"}, bytes);
  Client client(server.rpc->bound());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.Await("hello"));
    ASSERT_TRUE(client.Await(absl::StrCat("down: a message of ", bytes.size(), " bytes is no ")));
  }
}

TEST(StreamTest, AMessageThatCannotBeDecodedEndsTheStreamAtTheServer) {
  Server server({.host = "127.0.0.1"});
  v1::AttachRequest request;
  request.mutable_form()->set_scheduler_id("\xFF");
  const std::string bytes = request.SerializeAsString();

  class Peer final : public ClientBytesReactor {
   public:
    Peer(const OpenStream& open, const std::string& bytes) : bytes_(Bytes(bytes)) {
      open(&context_, this);
      StartRead(&answer_);
      StartWrite(&bytes_);
      StartCall();
    }
    Mailbox<absl::Status> ended{1};

   private:
    void OnReadDone(bool ok) override {  // a status comes after the messages before it
      if (ok) StartRead(&answer_);
    }
    void OnDone(const grpc::Status& status) override { ended.Push(FromGrpcStatus(status)); }
    grpc::ClientContext context_;
    grpc::ByteBuffer bytes_, answer_;
  };
  Peer peer(OpenOn(MakeChannel(server.rpc->bound(), kServiceMessageBytesMax), kMethod), bytes);
  const auto ended = peer.ended.Wait(absl::Seconds(20));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ended[0].message()), HasSubstr("is no pregate.v1.AttachRequest"));
  const auto whys = server.service.whys.Wait(absl::Seconds(20));
  ASSERT_EQ(whys.size(), 1u);
  EXPECT_EQ(whys[0], ended[0].message());
}

// The server neither answers nor ends anything after its hello and an end of what it sends.
TEST(StreamTest, AWedgedStreamDoesNotHoldTheEnd) {
  ServerOf<BadService> server({.host = "127.0.0.1"}, UndecodableResponse());
  const absl::Time start = absl::Now();
  {
    Client client(server.rpc->bound());
    ASSERT_TRUE(client.Await("hello"));
  }
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(StreamTest, ManyConnectionsComeAndGo) {
  Server server({.host = "127.0.0.1"});
  for (int i = 0; i < 50; ++i) {
    Client client(server.rpc->bound());
    if (i % 2 == 1) {
      ASSERT_TRUE(client.Await("hello"));
    }
  }
  server.rpc->Shutdown(absl::Seconds(10));
  EXPECT_GE(server.service.num_closed, 25);
}

}  // namespace
}  // namespace pregate
