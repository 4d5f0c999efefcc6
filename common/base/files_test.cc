#include "common/base/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "common/base/remove_on_signal.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    std::string pattern = ::testing::TempDir() + "/files-XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~FilesTest() override { fs::remove_all(dir_); }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }
  size_t NumFiles() const {
    return std::distance(fs::directory_iterator(dir_), fs::directory_iterator());
  }

  std::string dir_;
};

std::string BytesOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST_F(FilesTest, InputsMayBeFilesPipesAndDescriptors) {
  const std::string bytes(200'000, 'x');
  ASSERT_TRUE(WriteOutput(Path("file"), bytes).ok());
  EXPECT_EQ(*ReadInput(Path("file"), bytes.size()), bytes);

  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  std::thread writer([&] { EXPECT_TRUE(WriteOutput(Path("fifo"), bytes).ok()); });
  EXPECT_EQ(*ReadInput(Path("fifo"), bytes.size()), bytes);
  writer.join();

  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "abc", 3), 3);
  close(ends[1]);
  EXPECT_EQ(*ReadInput("/dev/fd/" + std::to_string(ends[0]), 3), "abc");
  close(ends[0]);
  EXPECT_EQ(*ReadInput("/dev/null", 0), "");
}

TEST_F(FilesTest, InputsAreBoundedAndNamed) {
  for (const auto& [path, why] : std::initializer_list<std::pair<std::string, const char*>>{
           {"/dev/zero", "more than 1000 bytes"}, {dir_, "directory"}, {Path("none"), "No such"}}) {
    const auto bytes = ReadInput(path, 1000);
    ASSERT_FALSE(bytes.ok()) << path;
    EXPECT_THAT(std::string(bytes.status().message()), HasSubstr(path));
    EXPECT_THAT(std::string(bytes.status().message()), HasSubstr(why));
  }
}

TEST_F(FilesTest, ARegularFileIsReplacedInOneStepAndKeepsItsPermissionsAndLinks) {
  ASSERT_TRUE(WriteOutput(Path("real"), "old").ok());
  ASSERT_EQ(chmod(Path("real").c_str(), 0640), 0);
  fs::create_symlink("real", Path("link"));
  {
    auto file = OutputFile::Open(Path("link"));
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Append("new").ok());
    EXPECT_EQ(BytesOf(Path("real")), "old");
    ASSERT_TRUE(file->Commit().ok());
  }
  EXPECT_EQ(BytesOf(Path("real")), "new");
  EXPECT_TRUE(fs::is_symlink(Path("link")));
  struct stat info = {};
  ASSERT_EQ(stat(Path("real").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
  EXPECT_EQ(NumFiles(), 2u);
}

TEST_F(FilesTest, ALinkToWhatIsNotThereYetStays) {
  fs::create_symlink("second", Path("first"));
  fs::create_symlink("real", Path("second"));
  ASSERT_TRUE(WriteOutput(Path("first"), "bytes").ok());
  EXPECT_TRUE(fs::is_symlink(Path("first")));
  EXPECT_TRUE(fs::is_symlink(Path("second")));
  EXPECT_EQ(*ReadInput(Path("real"), 10), "bytes");
  fs::create_symlink("loop", Path("loop"));
  EXPECT_FALSE(WriteOutput(Path("loop"), "bytes").ok());
}

TEST_F(FilesTest, NothingStaysOfWhatIsNotCommitted) {
  {
    auto file = OutputFile::Open(Path("out"));
    ASSERT_TRUE(file.ok() && file->Append("half").ok());
    EXPECT_EQ(NumFiles(), 1u);
  }
  EXPECT_EQ(NumFiles(), 0u);
}

TEST_F(FilesTest, WhatIsNoRegularFileIsWrittenToAndStays) {
  EXPECT_TRUE(absl::IsResourceExhausted(WriteOutput("/dev/full", "x")));
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
  EXPECT_TRUE(WriteOutput("/dev/null", "x").ok());

  const int fd = open(Path("log").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(write(fd, "before ", 7), 7);
  ASSERT_TRUE(WriteOutput("/dev/fd/" + std::to_string(fd), "after").ok());
  close(fd);
  EXPECT_EQ(BytesOf(Path("log")), "before after");
  EXPECT_THAT(std::string(WriteOutput(Path("no/dir"), "x").message()), HasSubstr("no/dir"));
  EXPECT_FALSE(WriteOutput(dir_, "x").ok());
}

// Runs `work` in a child that ends itself with SIGTERM; returns the signal that ended it.
template <typename Work>
int EndedBy(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    raise(SIGTERM);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_F(FilesTest, ASignalLeavesNothingHalfWritten) {
  const std::string folder = Path("folder"), kept = Path("kept");
  EXPECT_EQ(EndedBy([&] {
              auto file = OutputFile::Open(Path("out"));
              file->Append("half").IgnoreError();
              RemoveOnSignal(folder);
              fs::create_directory(folder);
              for (int i = 0; i < 300; ++i) std::ofstream(folder + "/" + std::to_string(i)) << i;
              RemoveOnSignal(kept);
              std::ofstream(kept) << "done";
              KeepOnSignal(kept);
              raise(SIGTERM);
            }),
            SIGTERM);
  EXPECT_EQ(NumFiles(), 1u);
  EXPECT_EQ(BytesOf(kept), "done");
}

TEST_F(FilesTest, AnIgnoredSignalStaysIgnored) {
  EXPECT_EQ(EndedBy([&] {
              signal(SIGTERM, SIG_IGN);
              RemoveOnSignal(Path("x"));
            }),
            0);
}

}  // namespace
}  // namespace pregate
