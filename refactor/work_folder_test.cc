#include "refactor/work_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

const nlohmann::json kInputs = {{"dense", "abc"}, {"keep", 0.5}};

std::unique_ptr<WorkFolder> OpenOrDie(const std::string& path) {
  auto folder = WorkFolder::Open(path);
  PREGATE_CHECK(folder.ok(), "", folder.status().ToString());
  return *std::move(folder);
}

TEST(WorkFolderTest, ARecordIsReadBackAndNoDraftStays) {
  const TempDir dir;
  const auto folder = OpenOrDie(dir.path("work"));
  const auto none = folder->Read("split.json", kInputs);
  ASSERT_TRUE(none.ok() && !none->has_value());
  ASSERT_TRUE(folder->Write("split.json", {{"inputs", kInputs}, {"windows", 3}}).ok());
  const auto record = folder->Read("split.json", kInputs);
  ASSERT_TRUE(record.ok() && record->has_value()) << record.status();
  EXPECT_EQ((**record)["windows"], 3);
  EXPECT_FALSE(folder->Has("split.json.part"));
  EXPECT_TRUE(folder->Remove("split.json").ok());
  EXPECT_TRUE(folder->Remove("split.json").ok());
}

TEST(WorkFolderTest, WhatAnotherRunLeftIsRefusedByName) {
  const TempDir dir;
  const auto folder = OpenOrDie(dir.path("work"));
  ASSERT_TRUE(folder->Write("tune.json", {{"inputs", kInputs}}).ok());
  EXPECT_THAT(folder->Read("tune.json", {{"dense", "abc"}, {"keep", 0.6}}).status().message(),
              HasSubstr("work/tune.json: was made with keep 0.5, now it is 0.6"));
  EXPECT_THAT(folder->Read("tune.json", {{"tokens", 7}}).status().message(),
              HasSubstr("tokens unknown"));
  EXPECT_TRUE(folder->Read("tune.json", {{"dense", "abc"}}).ok());
}

TEST(WorkFolderTest, ADraftThatWasNeverPublishedChangesNothing) {
  const TempDir dir;
  const auto folder = OpenOrDie(dir.path("work"));
  ASSERT_TRUE(folder->Write("a.json", {{"inputs", kInputs}, {"step", 1}}).ok());
  WriteFile(folder->Draft("a.json"), "{\"inputs\": {");  // a kill while the next one was written
  EXPECT_EQ((**folder->Read("a.json", kInputs))["step"], 1);
  ASSERT_TRUE(folder->Write("a.json", {{"inputs", kInputs}, {"step", 2}}).ok());
  EXPECT_EQ((**folder->Read("a.json", kInputs))["step"], 2);
}

TEST(WorkFolderTest, WhatAKillLeftHalfWrittenIsRemoved) {
  const TempDir dir;
  {
    const auto folder = OpenOrDie(dir.path("work"));
    WriteFile(folder->Draft("a.json"), "{");
    WriteFile(folder->File(".pregate-0123"), "half");
    WriteFile(folder->File("report.html"), "whole");
  }
  const auto folder = OpenOrDie(dir.path("work"));
  EXPECT_FALSE(folder->Has("a.json.part") || folder->Has(".pregate-0123"));
  EXPECT_TRUE(folder->Has("report.html"));
}

TEST(WorkFolderTest, TwoRunsDoNotShareIt) {
  const TempDir dir;
  const auto folder = OpenOrDie(dir.path("work"));
  EXPECT_THAT(WorkFolder::Open(dir.path("work")).status().message(),
              HasSubstr("another run works there"));
}

TEST(WorkFolderTest, NamesTheFileOfAnError) {
  const TempDir dir;
  EXPECT_THAT(WorkFolder::Open(dir.path("no/such")).status().message(), HasSubstr("no/such"));
  const auto folder = OpenOrDie(dir.path("work"));
  WriteFile(folder->File("a.json"), "[]");
  EXPECT_THAT(folder->Read("a.json", kInputs).status().message(), HasSubstr("a.json"));
  EXPECT_THAT(folder->Publish("b.json").message(), HasSubstr("b.json.part"));
}

}  // namespace
}  // namespace pregate
