#include "common/rpc/worker_codec.h"

#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/util/message_differencer.h>

#include <chrono>
#include <limits>

#include "common/base/limits.h"
#include "common/rpc/sampling_codec.h"
#include "common/rpc/testing/random_proto.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::FillRandom;
using ::testing::HasSubstr;
using testing::Mutate;

std::mt19937_64 Seeded() {
  const uint64_t seed = std::chrono::steady_clock::now().time_since_epoch().count();
  std::printf("seed %lu\n", seed);
  return std::mt19937_64(seed);
}

// What fields owe to each other, which random values do not keep.
void Repair(v1::AttachRequest* message) {
  if (!message->has_plan()) return;
  for (v1::SequenceAdd& add : *message->mutable_plan()->mutable_add()) {
    EncodeSampling(DecodeSampling(add.sampling()), add.mutable_sampling());
    add.mutable_sampling()->clear_seed();
    const std::vector<LogitBias> biases = DecodeLogitBias(add.sampling());  // a token comes once
    add.mutable_sampling()->clear_logit_bias();
    EncodeLogitBias(biases, add.mutable_sampling());
  }
  for (v1::Wanted& wanted : *message->mutable_plan()->mutable_wanted()) {
    wanted.set_load_first(std::min(wanted.load_first(), wanted.units_size()));
  }
}
void Repair(v1::AttachResponse* message) {
  if (!message->has_result()) return;
  for (v1::RowScores& scores : *message->mutable_result()->mutable_scores()) {
    scores.set_greedy(std::string(scores.logprobs_size(), '\1'));
    if (scores.top_size() != scores.logprobs_size()) scores.clear_top();
  }
}

v1::AttachRequest Encode(const ToWorker& message) { return EncodeToWorker(message); }
v1::AttachResponse Encode(const FromWorker& message) { return EncodeFromWorker(message); }
absl::StatusOr<ToWorker> Decode(const v1::AttachRequest& message) {
  return DecodeToWorker(message);
}
absl::StatusOr<FromWorker> Decode(const v1::AttachResponse& message) {
  return DecodeFromWorker(message);
}

template <typename Proto>
class WorkerCodecTest : public ::testing::Test {};
using Directions = ::testing::Types<v1::AttachRequest, v1::AttachResponse>;
TYPED_TEST_SUITE(WorkerCodecTest, Directions);

TYPED_TEST(WorkerCodecTest, EveryFieldComesBackEqual) {
  std::mt19937_64 random = Seeded();
  for (int i = 0; i < 2000; ++i) {
    TypeParam message;
    FillRandom(&message, random, {});
    Repair(&message);
    const auto decoded = Decode(message);
    ASSERT_TRUE(decoded.ok()) << decoded.status() << "\n" << message.DebugString();
    std::string difference;
    google::protobuf::util::MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&difference);
    ASSERT_TRUE(differencer.Compare(message, Encode(*decoded))) << difference;
  }
}

TYPED_TEST(WorkerCodecTest, WildValuesAreDecodedOrRefusedByField) {
  std::mt19937_64 random = Seeded();
  int num_refused = 0;
  for (int i = 0; i < 2000; ++i) {
    TypeParam message;
    FillRandom(&message, random, {.wild = true});
    const auto decoded = Decode(message);
    num_refused += !decoded.ok();
    if (!decoded.ok()) {
      EXPECT_FALSE(decoded.status().message().empty());
    }
  }
  EXPECT_GT(num_refused, 0);
}

TYPED_TEST(WorkerCodecTest, MutatedBytesNeverCrash) {
  std::mt19937_64 random = Seeded();
  google::protobuf::LogSilencer quiet;  // it reports each string that is no UTF-8
  for (int i = 0; i < 20000; ++i) {
    TypeParam message;
    FillRandom(&message, random, {});
    TypeParam mutated;
    if (!mutated.ParseFromString(Mutate(message.SerializeAsString(), random))) continue;
    const auto decoded = Decode(mutated);
    if (decoded.ok()) Encode(*decoded).SerializeAsString();
  }
}

TEST(DecodeToWorkerTest, NamesFieldAndValue) {
  v1::AttachRequest unset;
  EXPECT_THAT(std::string(DecodeToWorker(unset).status().message()), HasSubstr("message"));

  v1::AttachRequest emit;
  emit.mutable_plan()->add_rows()->set_count(1);
  EXPECT_THAT(std::string(DecodeToWorker(emit).status().message()), HasSubstr("rows.emit is 0"));

  v1::AttachRequest position;
  position.mutable_plan()->add_rows()->set_position(-7);
  EXPECT_THAT(std::string(DecodeToWorker(position).status().message()),
              HasSubstr("rows.position is -7"));

  v1::AttachRequest members;
  for (int i = 0; i <= kWorkersMax; ++i) members.mutable_form()->add_members(i);
  EXPECT_THAT(std::string(DecodeToWorker(members).status().message()),
              HasSubstr("form.members has 257 entries, at most 256"));
}

TEST(EncodeFromWorkerTest, ClipsLongErrorsBetweenCharacters) {
  std::string text(kErrorTextBytesMax - 1, 'x');
  text += "\xC3\xA4 and more";
  const auto message = EncodeFromWorker(Formed{.status = absl::InternalError(text)});
  EXPECT_EQ(message.formed().status().message(), std::string(kErrorTextBytesMax - 1, 'x'));
}

TEST(DecodeFromWorkerTest, FiguresForPeopleAreCutToWhatIsPlausible) {
  v1::AttachResponse message;
  message.mutable_result()->set_stall_us(-1);
  message.mutable_result()->set_unit_hits(std::numeric_limits<int64_t>::max());
  message.mutable_result()->set_unit_misses(std::numeric_limits<int64_t>::min());
  for (const int activity : {0, 4, 99}) {
    v1::ActivitySpan* const span = message.mutable_result()->add_activities();
    span->set_activity(static_cast<v1::Activity>(activity));
    span->set_begin_us(std::numeric_limits<int64_t>::min());
    span->set_duration_us(-1);
  }
  const auto decoded = DecodeFromWorker(message);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const auto& result = std::get<StepResult>(*decoded);
  EXPECT_EQ(result.stall_us, 0);
  EXPECT_EQ(result.unit_hits, kResidentUnitsMax);
  EXPECT_EQ(result.unit_misses, 0);
  ASSERT_EQ(result.activities.size(), 1u) << "unknown ones are left out";
  EXPECT_EQ(result.activities[0].activity, Activity::kExchange);
  EXPECT_EQ(result.activities[0].begin_us, -3600 * int64_t{1000000});
  EXPECT_EQ(result.activities[0].duration_us, 0);
  for (int i = 0; i < 2 * kStepActivitiesMax; ++i) {
    message.mutable_result()->add_activities()->set_activity(v1::ACTIVITY_LOAD);
  }
  EXPECT_EQ(std::get<StepResult>(*DecodeFromWorker(message)).activities.size(), kStepActivitiesMax);
}

TEST(DecodeFromWorkerTest, ATimelineSurvivesTheWire) {
  StepResult result{.begin_us = 12, .activities = {}, .device_clock = true};
  for (int a = 0; a < kNumActivities; ++a) {
    result.activities.push_back({static_cast<Activity>(a), a - 2, 10 * a});
  }
  const auto decoded = DecodeFromWorker(EncodeFromWorker(result));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  const auto& back = std::get<StepResult>(*decoded);
  EXPECT_EQ(back.begin_us, 12);
  EXPECT_EQ(back.activities, result.activities);
  EXPECT_TRUE(back.device_clock);
}

TEST(DecodeFromWorkerTest, AnUnknownStatusCodeIsNeverOk) {
  v1::AttachResponse message;
  message.mutable_formed()->mutable_status()->set_code(99);
  const auto decoded = DecodeFromWorker(message);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(std::get<Formed>(*decoded).status.code(), absl::StatusCode::kUnknown);
}

}  // namespace
}  // namespace pregate
