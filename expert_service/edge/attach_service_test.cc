#include "expert_service/edge/attach_service.h"

#include <unistd.h>

#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/mailbox.h"
#include "common/rpc/channel.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/stream_dialer.h"
#include "common/rpc/testing/rapid_resets.h"
#include "common/rpc/worker_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

// Says hello to each link and answers each plan with a result of its number.
class FakeWorker final : public WorkerPeer {
 public:
  LinkId Attach(Send send) override {
    absl::MutexLock lock(&mutex_);
    const LinkId link = ++last_link_;
    send(Hello{.incarnation = link});
    links_[link] = std::move(send);
    return link;
  }
  bool Submit(LinkId link, ToWorker message) override {
    absl::MutexLock lock(&mutex_);
    if (inbox_is_full) return false;
    if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
      links_.at(link)(StepResult{.incarnation = link, .step_id = (*plan)->step_id});
    }
    return true;
  }
  void Detach(LinkId link) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_EQ(links_.erase(link), 1u);
  }
  LinkId holder() const override { return held_by; }
  // Whether `n` links are open before the time is up.
  bool AwaitLinks(size_t n) {
    absl::MutexLock lock(&mutex_);
    const auto reached = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return links_.size() == n; };
    return mutex_.AwaitWithTimeout(absl::Condition(&reached), absl::Seconds(20));
  }

  std::atomic<bool> inbox_is_full{false};
  std::atomic<LinkId> held_by{0};

 private:
  absl::Mutex mutex_;
  LinkId last_link_ = 0;
  std::map<LinkId, Send> links_;
};

// Notes what it hears: "hello 1", "result 1/7" (incarnation/step), "down: why".
class Scheduler {
 public:
  using Dialer = StreamDialer<v1::AttachResponse>;

  explicit Scheduler(const Address& address)
      : dialer_(
            {.open = OpenOn(MakeChannel(address, kServiceMessageBytesMax),
                            "/pregate.v1.ExpertWorker/Attach"),
             .on_message = [this](const v1::AttachResponse& response) { return Note(response); },
             .on_down =
                 [this](const auto& why) { heard_.Push(absl::StrCat("down: ", why.ToString())); },
             .on_dial_failed =
                 [this](const auto& why) {
                   heard_.Push(absl::StrCat("failed: ", why.ToString()));
                 }}) {}

  void Send(v1::AttachRequest request) { dialer_.Send(ToBytes(&request)); }
  void Send(const ToWorker& message) { Send(EncodeToWorker(message)); }
  void Send(StepPlan plan) { Send(std::make_shared<const StepPlan>(std::move(plan))); }
  bool Await(const std::string& text) {
    while (true) {
      const auto messages = heard_.Wait(absl::Seconds(20));
      if (messages.empty()) return false;
      for (const std::string& message : messages) {
        if (absl::StrContains(message, text)) return true;
      }
    }
  }

 private:
  absl::Status Note(const v1::AttachResponse& response) {
    const auto message = DecodeFromWorker(response);
    EXPECT_TRUE(message.ok()) << message.status();
    if (const auto* hello = std::get_if<Hello>(&*message)) {
      heard_.Push(absl::StrCat("hello ", hello->incarnation));
    } else if (const auto* result = std::get_if<StepResult>(&*message)) {
      heard_.Push(absl::StrCat("result ", result->incarnation, "/", result->step_id));
    }
    return absl::OkStatus();
  }

  Mailbox<std::string> heard_{1000};
  Dialer dialer_;
};

class AttachServiceTest : public ::testing::TestWithParam<Address> {
 protected:
  AttachServiceTest() : service_(&worker_) {
    auto started = RpcServer::Start({.listen = GetParam(),
                                     .message_bytes_max = kServiceMessageBytesMax,
                                     .self_told = service_.self_told()},
                                    {&service_}, [] { return true; });
    EXPECT_TRUE(started.ok()) << started.status();
    rpc_ = *std::move(started);
  }

  FakeWorker worker_;
  AttachService service_;
  std::unique_ptr<RpcServer> rpc_;
};

INSTANTIATE_TEST_SUITE_P(Addresses, AttachServiceTest,
                         ::testing::Values(Address{.host = "127.0.0.1"},
                                           Address{.path = absl::StrCat("/tmp/pregate-", getpid(),
                                                                        "-attach")}));

TEST_P(AttachServiceTest, SaysHelloAndAnswersPlans) {
  Scheduler scheduler(rpc_->bound());
  ASSERT_TRUE(scheduler.Await("hello 1"));
  for (StepId step = 1; step <= 20; ++step) {
    scheduler.Send(StepPlan{.epoch = 1, .step_id = step});
    ASSERT_TRUE(scheduler.Await(absl::StrCat("result 1/", step)));
  }
}

// Streams that look on keep nobody out, and nobody pushes out the one that holds the worker.
TEST_P(AttachServiceTest, OneStreamTooManyTakesThePlaceOfTheOldestThatHoldsNothing) {
  std::vector<std::unique_ptr<Scheduler>> schedulers;
  for (int i = 1; i <= kWorkerLinksMax; ++i) {
    schedulers.push_back(std::make_unique<Scheduler>(rpc_->bound()));
    ASSERT_TRUE(schedulers.back()->Await(absl::StrCat("hello ", i)));
  }
  worker_.held_by = 1;
  Scheduler newer(rpc_->bound());
  ASSERT_TRUE(newer.Await("hello"));
  ASSERT_TRUE(schedulers[1]->Await("down: ABORTED: a newer scheduler stream"));
  schedulers[0]->Send(StepPlan{.epoch = 1, .step_id = 1});
  EXPECT_TRUE(schedulers[0]->Await("result 1/1"));
}

TEST_P(AttachServiceTest, ABadMessageEndsTheStreamByItsField) {
  Scheduler scheduler(rpc_->bound());
  ASSERT_TRUE(scheduler.Await("hello"));
  v1::AttachRequest bad;
  bad.mutable_plan()->add_rows()->set_emit(v1::EMIT_UNSPECIFIED);
  scheduler.Send(bad);
  EXPECT_TRUE(scheduler.Await("down: INVALID_ARGUMENT: plan.rows.emit is 0"));
}

TEST_P(AttachServiceTest, AFullInboxEndsTheStream) {
  Scheduler scheduler(rpc_->bound());
  ASSERT_TRUE(scheduler.Await("hello"));
  worker_.inbox_is_full = true;
  scheduler.Send(Renew{});
  EXPECT_TRUE(scheduler.Await("down: RESOURCE_EXHAUSTED"));
}

TEST_P(AttachServiceTest, DrainEndsTheStreamAndRefusesOthers) {
  Scheduler scheduler(rpc_->bound());
  ASSERT_TRUE(scheduler.Await("hello"));
  service_.Drain();
  ASSERT_TRUE(scheduler.Await("UNAVAILABLE: the worker is stopping"));
  ASSERT_TRUE(scheduler.Await("UNAVAILABLE: the worker is stopping"));
}

TEST_P(AttachServiceTest, AConnectionThatResetsItsCallsIsCut) {
  if (GetParam().is_unix()) GTEST_SKIP() << "clients of a Unix socket have no name";
  EXPECT_TRUE(testing::CutsRapidResets(rpc_->bound(), "/pregate.v1.ExpertWorker/Attach"));
  EXPECT_TRUE(worker_.AwaitLinks(0));
  EXPECT_TRUE(Scheduler(rpc_->bound()).Await("hello"));
}

TEST_P(AttachServiceTest, EveryLinkIsDetachedOnce) {
  for (int i = 0; i < 10; ++i) {
    Scheduler scheduler(rpc_->bound());
    ASSERT_TRUE(scheduler.Await("hello"));
  }
  EXPECT_TRUE(worker_.AwaitLinks(0));
}

}  // namespace
}  // namespace pregate
