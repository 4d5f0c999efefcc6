#include "scheduler_service/engine/generations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace pregate {
namespace {

using testing::ElementsAre;

// Remembers what is asked of it; the test answers in its place.
class RecordingEngine final : public Peer<GenerateRequest, ToClient> {
 public:
  LinkId Attach(Send send) override {
    sends[++last_link_] = std::move(send);
    return last_link_;
  }
  bool Submit(LinkId link, GenerateRequest request) override {
    if (requests.size() == submits_max) return false;
    requests.push_back(std::move(request));
    return true;
  }
  void Detach(LinkId link) override { detached.insert(link); }
  void Say(LinkId link, ToClient message) { sends.at(link)(std::move(message)); }

  std::map<LinkId, Send> sends;
  std::vector<GenerateRequest> requests;
  std::set<LinkId> detached;
  size_t submits_max = 100;

 private:
  LinkId last_link_ = 0;
};

class GenerationsTest : public testing::Test {
 protected:
  bool Submit(int32_t n, int32_t best_of) {
    GenerateRequest request;
    request.prompt = {1, 2};
    request.seed = 100;
    request.n = n;
    request.best_of = best_of;
    request.prompt_logprobs = 0;
    return generations_->Submit(std::move(request));
  }
  static TokensOut Tokens(std::vector<TokenId> tokens, float logprob = 0) {
    TokensOut out;
    for (size_t i = 0; i < tokens.size(); ++i) out.logprobs.push_back({{tokens[i], logprob}});
    out.tokens = std::move(tokens);
    out.text = "text ";
    return out;
  }
  static DoneInfo Done(int32_t generated) {
    return {.reason = FinishReason::kStopToken, .prompt_tokens = 2, .generated_tokens = generated};
  }
  template <typename T>
  std::vector<T> Heard() const {
    std::vector<T> all;
    for (const ToClient& message : heard_) {
      if (const T* one = std::get_if<T>(&message)) all.push_back(*one);
    }
    return all;
  }

  RecordingEngine engine_;
  std::vector<ToClient> heard_;
  std::shared_ptr<Generations> generations_ = std::make_shared<Generations>(
      &engine_, [this](const ToClient& message) { heard_.push_back(message); });
};

TEST_F(GenerationsTest, OnePassesThroughAsItIs) {
  ASSERT_TRUE(Submit(1, 0));
  ASSERT_EQ(engine_.requests.size(), 1u);
  EXPECT_EQ(engine_.requests[0].seed, 100u);
  engine_.Say(1, StartInfo{.seed = 100});
  engine_.Say(1, Tokens({5}));
  engine_.Say(1, Done(1));
  EXPECT_EQ(heard_.size(), 3u);
  EXPECT_EQ(Heard<DoneInfo>()[0].generated_tokens, 1);
  EXPECT_TRUE(engine_.detached.empty());
}

TEST_F(GenerationsTest, SeveralHaveSeedsOfTheirOwnAndOneStartAndEnd) {
  ASSERT_TRUE(Submit(3, 0));
  ASSERT_EQ(engine_.requests.size(), 3u);
  EXPECT_EQ(engine_.requests[2].seed, 100 + 2 * 0x9E3779B97F4A7C15u);
  EXPECT_TRUE(engine_.requests[0].prompt_logprobs);
  EXPECT_FALSE(engine_.requests[1].prompt_logprobs);
  engine_.Say(2, StartInfo{.seed = 7});
  engine_.Say(1, StartInfo{.seed = 100});
  engine_.Say(3, Tokens({5, 6}));
  engine_.Say(1, Tokens({9}));
  engine_.Say(3, Done(2));
  engine_.Say(1, Done(1));
  engine_.Say(2, Tokens({4}));
  EXPECT_TRUE(Heard<DoneInfo>().empty());
  engine_.Say(2, Done(1));
  ASSERT_EQ(Heard<StartInfo>().size(), 1u);
  EXPECT_EQ(Heard<StartInfo>()[0].seed, 100u);
  std::vector<int32_t> indexes;
  for (const TokensOut& out : Heard<TokensOut>()) indexes.push_back(out.index);
  EXPECT_THAT(indexes, ElementsAre(2, 0, 1));
  const auto ends = Heard<ChoiceDone>();
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_EQ(ends[0].index, 2);
  EXPECT_EQ(ends[0].seed, SeedOfChoice(100, 2));
  ASSERT_EQ(Heard<DoneInfo>().size(), 1u);
  EXPECT_EQ(Heard<DoneInfo>()[0].generated_tokens, 4);
  EXPECT_EQ(Heard<DoneInfo>()[0].prompt_tokens, 2);
  EXPECT_TRUE(std::holds_alternative<DoneInfo>(heard_.back()));
}

TEST_F(GenerationsTest, TheLikeliestOnAverageComeFirstWhenAllHaveEnded) {
  ASSERT_TRUE(Submit(2, 3));
  for (const GenerateRequest& request : engine_.requests) EXPECT_EQ(request.logprobs, 0);
  for (LinkId link : {1, 2, 3}) engine_.Say(link, StartInfo{});
  engine_.Say(1, Tokens({5, 5, 5}, -2));
  engine_.Say(2, Tokens({6}, -3));
  engine_.Say(3, Tokens({7}, -1));
  engine_.Say(3, Tokens({8}, -1.5f));
  for (LinkId link : {3, 1}) engine_.Say(link, Done(2));
  EXPECT_EQ(heard_.size(), 1u) << "but for the start";
  engine_.Say(2, Done(1));
  const auto tokens = Heard<TokensOut>();
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_THAT(tokens[0].tokens, ElementsAre(7, 8));
  EXPECT_EQ(tokens[0].text, "text text ");
  EXPECT_TRUE(tokens[0].logprobs.empty()) << "nobody asked for them";
  EXPECT_THAT(tokens[1].tokens, ElementsAre(5, 5, 5));
  EXPECT_EQ(tokens[1].index, 1);
  EXPECT_EQ(Heard<ChoiceDone>()[0].seed, SeedOfChoice(100, 2));
  EXPECT_EQ(Heard<DoneInfo>()[0].generated_tokens, 5) << "of all three";
}

TEST_F(GenerationsTest, WhereOneFailsAllEndWithIt) {
  ASSERT_TRUE(Submit(2, 0));
  engine_.Say(1, DoneInfo{.status = absl::ResourceExhaustedError("full")});
  EXPECT_THAT(engine_.detached, ElementsAre(1, 2));
  engine_.Say(2, Tokens({4}));
  engine_.Say(2, DoneInfo{.status = absl::CancelledError("")});
  ASSERT_EQ(heard_.size(), 1u);
  EXPECT_TRUE(absl::IsResourceExhausted(Heard<DoneInfo>()[0].status));
}

TEST_F(GenerationsTest, WhereTheInboxIsFullNothingGoesOn) {
  engine_.submits_max = 1;
  EXPECT_FALSE(Submit(2, 0));
  EXPECT_THAT(engine_.detached, ElementsAre(1, 2));
  engine_.Say(1, StartInfo{});
  EXPECT_TRUE(heard_.empty());
}

TEST_F(GenerationsTest, DetachingEndsAll) {
  ASSERT_TRUE(Submit(3, 0));
  generations_->Detach();
  EXPECT_THAT(engine_.detached, ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace pregate
