#include "scheduler_service/core/drafting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;

StepCost Measured(double fixed_us, double per_token_us) {
  StepCost cost;
  for (int i = 0; i < 400; ++i) {
    const int32_t tokens = 1 + i % 8;
    cost.Observe(tokens, fixed_us + per_token_us * tokens);
  }
  return cost;
}

TEST(StepCostTest, FindsTheLine) {
  const StepCost cost = Measured(1000, 50);
  EXPECT_NEAR(cost.per_token(), 50, 5);
  EXPECT_NEAR(cost.Of(4), 1200, 30);
}

TEST(StepCostTest, WhereNothingVariesItGuessesAndIsRightThere) {
  StepCost cost;
  for (int i = 0; i < 300; ++i) cost.Observe(8, 800);
  EXPECT_NEAR(cost.Of(8), 800, 1e-6);
  EXPECT_NEAR(cost.per_token(), 20, 1e-6);
}

// What was learnt fades, so a step that has become cheaper is tried again.
TEST(StepCostTest, FollowsAChange) {
  StepCost cost = Measured(100, 100);
  for (int i = 0; i < 700; ++i) cost.Observe(1 + i % 3, 500);
  EXPECT_LT(cost.per_token(), 10);
}

TEST(ChooseDraftsTest, TakesWhatBeatsTheRateSoFar) {
  // One token in 100 us; each further one adds 10 us, so it must be right by 10% and more.
  const StepCost cost = Measured(90, 10);
  const std::vector<Draft> likely(4, {1, 0.9f}), unlikely(4, {1, 0.05f}), none;
  EXPECT_THAT(ChooseDrafts({likely}, cost, 100).counts, ElementsAre(4));
  EXPECT_THAT(ChooseDrafts({unlikely}, cost, 100).counts, ElementsAre(0));
  EXPECT_THAT(ChooseDrafts({none, likely, unlikely}, cost, 100).counts, ElementsAre(0, 4, 0));
  EXPECT_THAT(ChooseDrafts({likely, likely}, cost, 3).counts, ElementsAre(1, 2));
  EXPECT_THAT(ChooseDrafts({}, cost, 100).counts, ElementsAre());
}

double TokensPerMicrosecond(const std::vector<std::vector<Draft>>& rows,
                            const std::vector<int32_t>& counts, const StepCost& cost) {
  double gained = 0, tokens = 0;
  for (size_t r = 0; r < rows.size(); ++r) {
    double chance = 1;
    gained += 1;
    for (int32_t i = 0; i < counts[r]; ++i) gained += chance *= rows[r][i].chance;
    tokens += 1 + counts[r];
  }
  return gained / cost.Of(tokens);
}

// Against every choice there is.
TEST(ChooseDraftsTest, NoChoiceGivesMoreTokensASecond) {
  std::mt19937 random(std::random_device{}());
  std::uniform_real_distribution<float> chance(0, 1);
  for (int round = 0; round < 200; ++round) {
    const uint32_t seed = random();
    std::mt19937 dice(seed);
    const StepCost cost = Measured(1 + dice() % 1000, 1 + dice() % 300);
    std::vector<std::vector<Draft>> rows(1 + dice() % 3);
    std::vector<absl::Span<const Draft>> spans;
    for (auto& row : rows) {
      row.resize(dice() % 4);
      for (Draft& draft : row) draft.chance = chance(dice);
      spans.push_back(row);
    }
    const double chosen = TokensPerMicrosecond(rows, ChooseDrafts(spans, cost, 100).counts, cost);
    std::vector<int32_t> counts(rows.size());
    for (bool more = true; more;) {
      EXPECT_GE(chosen, TokensPerMicrosecond(rows, counts, cost) * (1 - 1e-9)) << "seed " << seed;
      more = false;
      for (size_t r = 0; r < rows.size() && !more; ++r) {
        if (counts[r] < static_cast<int32_t>(rows[r].size())) {
          ++counts[r];
          more = true;
        } else {
          counts[r] = 0;
        }
      }
    }
  }
}

Sequence Repeating(int32_t count) {
  Sequence s;
  s.id = 1;
  s.prompt_len = count;
  s.max_len = 1000;
  s.dense = true;
  for (int32_t i = 0; i < count; ++i) s.Append(i % 5, kNoRoute);
  s.planned = count - 1;
  return s;
}

TEST(DraftingTest, GuessesWhatTheTextRepeats) {
  Drafting drafting;
  Sequence s = Repeating(12);
  drafting.Follow(&s);
  ASSERT_EQ(s.drafts.size(), 16u);
  for (int32_t i = 0; i < 16; ++i) EXPECT_EQ(s.drafts[i].token, (12 + i) % 5);
}

TEST(DraftingTest, LearnsWhetherGuessesAreRight) {
  Drafting drafting;
  Sequence s = Repeating(12);
  drafting.Follow(&s);
  const float before = s.drafts[0].chance;
  for (int32_t i = 12; i < 40; ++i) {
    s.Append(i % 5, kNoRoute);
    drafting.Follow(&s);
  }
  EXPECT_GT(s.drafts[0].chance, before);
  EXPECT_GT(s.drafts[0].chance, 0.9f);
  Sequence other = Repeating(12);
  other.id = 2;
  drafting.Follow(&other);
  EXPECT_GT(other.drafts[8].chance, before) << "what one text shows is the next one's prior";
}

TEST(DraftingTest, NoneForWhoDoesNotTakePart) {
  Drafting drafting;
  Sequence penalised = Repeating(12), refusing = Repeating(12), short_of_one = Repeating(12);
  penalised.sampling.repetition_penalty = 1.1f;
  refusing.no_drafts = true;
  short_of_one.max_len = 13;  // one token to come: no draft may stand before its end
  for (Sequence* s : {&penalised, &refusing, &short_of_one}) {
    drafting.Follow(s);
    EXPECT_TRUE(s->drafts.empty());
  }
}

TEST(DraftingTest, RunsAheadWhereDraftsPromiseLittle) {
  Drafting drafting;
  Sequence s = Repeating(12), plain = Repeating(4);
  plain.id = 2;
  drafting.Follow(&s);
  drafting.Follow(&plain);
  const Sequence *both[] = {&s, &plain}, *one[] = {&plain};
  EXPECT_FALSE(drafting.BeatsRunAhead({}));
  EXPECT_FALSE(drafting.BeatsRunAhead(one));
  EXPECT_TRUE(drafting.BeatsRunAhead(both));
  s.planned = 0;
  EXPECT_FALSE(drafting.BeatsRunAhead(both)) << "it is in its prefill";
}

// The plain definition: the longest suffix among the last 16 places of its last two tokens, the
// latest of equal ones; and a guess that was right goes on.
TEST(NgramDrafterTest, FindsWhatASlowSearchFinds) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    const int vocab = 2 + random() % 40;
    NgramDrafter drafter;
    std::vector<TokenId> tokens;
    for (int n = 1; n <= 120; ++n) {
      const bool repeats = n > 10 && random() % 4 != 0;
      tokens.push_back(repeats ? tokens[n - 1 - 7] : random() % vocab);
      const NgramDrafter::Guess made = drafter.Follow(tokens);
      NgramDrafter::Guess want;
      for (int end = n - 2, places = 0; end > 0 && places < 16; --end) {
        int match = 0;
        while (match < NgramDrafter::kMatchMax && match <= end &&
               tokens[end - match] == tokens[n - 1 - match]) {
          ++match;
        }
        if (match < NgramDrafter::kMatchMin) continue;
        ++places;
        if (match > want.match) want = {end + 1, match};
      }
      const bool right = made && tokens[made.source] == tokens.back();
      if (right) want = {made.source + 1, std::min(made.match + 1, NgramDrafter::kMatchMax)};
      ASSERT_EQ(drafter.guess().source, want.source) << n;
      ASSERT_EQ(drafter.guess().match, want.match) << n;
      if (!drafter.guess()) continue;
      for (int i = 1; i <= drafter.guess().match; ++i) {
        ASSERT_EQ(tokens[drafter.guess().source - i], tokens[n - i]) << n;
      }
      const std::vector<TokenId> next = drafter.Tokens(tokens, 20);
      std::vector<TokenId> all = tokens;
      for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(next[i], all[drafter.guess().source + i]);
        all.push_back(next[i]);
      }
    }
  }
}

}  // namespace
}  // namespace pregate::scheduler
