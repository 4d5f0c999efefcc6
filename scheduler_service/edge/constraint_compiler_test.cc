#include "scheduler_service/edge/constraint_compiler.h"

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/base/grammar_limits.h"
#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

class ConstraintCompilerTest : public ::testing::Test {
 protected:
  absl::StatusOr<ConstraintCompiler::Grammar> Compile(const Constraint& constraint) {
    absl::Notification over;
    absl::StatusOr<ConstraintCompiler::Grammar> result;
    compiler_.Compile(constraint, [&](absl::StatusOr<ConstraintCompiler::Grammar> grammar) {
      result = std::move(grammar);
      over.Notify();
    });
    over.WaitForNotification();
    return result;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = MakePipelineTokenizer(SmallVocabulary()).value();
  ConstraintCompiler compiler_{tokenizer_.get(), tokenizer_->vocab_size()};
};

TEST_F(ConstraintCompilerTest, KeepsWhatWasUsedLast) {
  const Constraint first = RegexConstraint{"a{1,3}"};
  const auto grammar = Compile(first);
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  for (size_t i = 0; i + 1 < kConstraintsKeptMax; ++i) {
    ASSERT_TRUE(Compile(RegexConstraint{absl::StrCat("a{1,", i + 4, "}")}).ok());
  }
  EXPECT_EQ(*Compile(first), *grammar);
  for (size_t i = 0; i < kConstraintsKeptMax; ++i) {
    ASSERT_TRUE(Compile(RegexConstraint{absl::StrCat("e{1,", i + 4, "}")}).ok());
  }
  EXPECT_NE(*Compile(first), *grammar);
}

TEST_F(ConstraintCompilerTest, ConstraintsOfOneTextAreDifferent) {
  const auto regex = Compile(RegexConstraint{"a"});
  const auto choice = Compile(ChoiceConstraint{{"a"}});
  ASSERT_TRUE(regex.ok() && choice.ok());
  EXPECT_NE(*regex, *choice);
  EXPECT_NE(*Compile(ChoiceConstraint{{"a", "e"}}), *Compile(ChoiceConstraint{{"ae"}}));
}

TEST_F(ConstraintCompilerTest, ErrorsAreTold) {
  EXPECT_THAT(std::string(Compile(JsonSchemaConstraint{R"({"not": {}})"}).status().message()),
              ::testing::HasSubstr("/not"));
  EXPECT_EQ(Compile(ChoiceConstraint{}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ConstraintCompilerTest, WhatWaitsIsBounded) {
  absl::Notification begun, go;
  const auto block = [&](const absl::StatusOr<ConstraintCompiler::Grammar>&) {
    begun.Notify();
    go.WaitForNotification();
  };
  compiler_.Compile(RegexConstraint{"a"}, block);
  begun.WaitForNotification();  // the compiler's thread is in it
  int done = 0, refused = 0;
  absl::Mutex mutex;
  for (size_t i = 0; i < kConstraintsCompilingMax + 3; ++i) {
    compiler_.Compile(RegexConstraint{absl::StrCat("e{1,", i + 1, "}")},
                      [&](const absl::StatusOr<ConstraintCompiler::Grammar>& grammar) {
                        absl::MutexLock lock(&mutex);
                        ++done;
                        refused += absl::IsResourceExhausted(grammar.status());
                      });
  }
  {
    absl::MutexLock lock(&mutex);
    EXPECT_EQ(done, 3);
    EXPECT_EQ(refused, 3);
  }
  go.Notify();
  ASSERT_TRUE(Compile(RegexConstraint{"a"}).ok());
  const auto all = [&] { return done == static_cast<int>(kConstraintsCompilingMax) + 3; };
  absl::MutexLock lock(&mutex);
  mutex.Await(absl::Condition(&all));
  EXPECT_EQ(refused, 3);
}

}  // namespace
}  // namespace pregate
