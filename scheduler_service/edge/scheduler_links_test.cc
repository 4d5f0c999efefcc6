#include "scheduler_service/edge/scheduler_links.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/mailbox.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/server_stream.h"
#include "common/rpc/worker_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

// A worker that says hello and answers each plan; a renewal makes it send nonsense.
class FakeWorkerService final
    : public v1::ExpertWorker::WithRawCallbackMethod_Attach<v1::ExpertWorker::Service> {
 public:
  using Stream = ServerStream<v1::AttachRequest, v1::AttachResponse>;

  ServerBytesReactor* Attach(grpc::CallbackServerContext*) override {
    auto stream = std::make_shared<Stream>();
    Stream* const raw = stream.get();
    stream->Begin({.on_message =
                       [raw](const v1::AttachRequest& request) {
                         const StepId step = request.plan().step_id();
                         raw->Send(request.has_renew()
                                       ? v1::AttachResponse()
                                       : EncodeFromWorker(StepResult{.step_id = step}));
                         return absl::OkStatus();
                       },
                   .on_closed = [](const absl::Status&) {}});
    stream->Send(EncodeFromWorker(Hello{.incarnation = 7}));
    return raw;
  }
};

class SchedulerLinksTest : public ::testing::Test {
 protected:
  void StartWorker() {
    rpc_ = nullptr;
    service_ = std::make_unique<FakeWorkerService>();
    auto started =
        RpcServer::Start({.listen = address_, .message_bytes_max = kServiceMessageBytesMax},
                         {service_.get()}, [] { return true; });
    ASSERT_TRUE(started.ok()) << started.status();
    rpc_ = *std::move(started);
  }
  std::unique_ptr<WorkerLink> Dial() {
    return MakeWorkerLink(
        3, address_.ToString(), MakeChannel(address_, kServiceMessageBytesMax),
        std::make_shared<PlanEncoder>(),
        [this](EngineEvent event) { return inbox_.Push(std::move(event)); }, &log_);
  }
  EngineEvent Next() {
    if (pending_.empty()) pending_ = inbox_.Wait(absl::Seconds(20));
    if (pending_.empty()) {
      ADD_FAILURE() << "no event";
      return DrainEvent{};
    }
    EngineEvent event = std::move(pending_.front());
    pending_.erase(pending_.begin());
    return event;
  }
  template <typename Message>
  Message NextMessage() {
    const EngineEvent event = Next();
    const auto* worker = std::get_if<WorkerEvent>(&event);
    if (worker == nullptr || !std::holds_alternative<Message>(worker->message)) {
      ADD_FAILURE() << "another event: " << event.index();
      return {};
    }
    EXPECT_EQ(worker->rank, 3);
    return std::get<Message>(worker->message);
  }

  const Address address_{.path = absl::StrCat("/tmp/pregate-", getpid(), "-worker")};
  Log log_{"test", {}, [](absl::string_view) {}};
  Mailbox<EngineEvent> inbox_{100};
  std::vector<EngineEvent> pending_;
  std::unique_ptr<FakeWorkerService> service_;
  std::unique_ptr<RpcServer> rpc_;
};

TEST_F(SchedulerLinksTest, TurnsMessagesIntoEvents) {
  StartWorker();
  const auto link = Dial();
  EXPECT_EQ(NextMessage<Hello>().incarnation, 7u);
  link->Send(std::make_shared<const StepPlan>(StepPlan{.epoch = 1, .step_id = 5}));
  EXPECT_EQ(NextMessage<StepResult>().step_id, 5u);
}

TEST_F(SchedulerLinksTest, SaysDownOnceAndHelloAgain) {
  StartWorker();
  const auto link = Dial();
  NextMessage<Hello>();
  rpc_ = nullptr;
  const EngineEvent event = Next();
  const auto* down = std::get_if<WorkerDown>(&event);
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->rank, 3);
  StartWorker();
  NextMessage<Hello>();
}

TEST_F(SchedulerLinksTest, NonsenseFromTheWorkerEndsTheConnection) {
  StartWorker();
  const auto link = Dial();
  NextMessage<Hello>();
  link->Send(Renew{});
  const EngineEvent event = Next();
  const auto* down = std::get_if<WorkerDown>(&event);
  ASSERT_NE(down, nullptr);
  EXPECT_THAT(down->reason, HasSubstr("message is not set"));
}

// The bytes of a plan are made once for all workers of a cell.
TEST(PlanEncoderTest, CopiesOfAPlanShareItsBytes) {
  PlanEncoder encoder;
  const auto bytes_at = [&](const ToWorker& message) {
    std::vector<grpc::Slice> slices;
    EXPECT_TRUE(encoder.Encode(message).Dump(&slices).ok());
    return slices.at(0).begin();
  };
  StepPlan plan{.epoch = 1, .step_id = 5};
  plan.rows.assign(100, Row{.count = 1, .tokens = {7}});  // too long to lie within a slice
  const auto first = std::make_shared<const StepPlan>(plan);
  EXPECT_EQ(bytes_at(first), bytes_at(first));
  EXPECT_NE(bytes_at(first), bytes_at(std::make_shared<const StepPlan>(plan)));
}

}  // namespace
}  // namespace pregate
