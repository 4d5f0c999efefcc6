#include "common/model/formats/safetensors.h"

#include <sys/stat.h>

#include <random>
#include <thread>

#include "common/model/formats/safetensors_writer.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  std::string Refusal(const std::string& bytes) {
    WriteFile(path_, bytes);
    const auto file = SafetensorsFile::Open(path_);
    return file.ok() ? "accepted" : std::string(file.status().message());
  }
  // The refusal of one header over 16 bytes of data.
  std::string RefusalOfHeader(const std::string& header) {
    return Refusal(RawSafetensors(header, std::string(16, '\0')));
  }
  std::string ValidFile() {
    EXPECT_TRUE(WriteSafetensors(path_,
                                 {FloatTensor("a", {2, 2}, {1, 2, 3, 4}, DType::kBF16),
                                  IntTensor("b", {3}, {5, 6, 7}), FloatTensor("empty", {0, 4}, {})},
                                 {{"key", "value"}})
                    .ok());
    return ReadFile(path_);
  }

  TempDir dir_;
  std::string path_ = dir_.path("x.safetensors");
};

TEST_F(SafetensorsTest, ReadsWhatTheWriterWrote) {
  ValidFile();
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*(*file)->ReadFloats("a"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(*(*file)->ReadInts("b"), ElementsAre(5, 6, 7));
  EXPECT_THAT(*(*file)->ReadFloats("empty"), ElementsAre());
  EXPECT_EQ((*file)->metadata().at("key"), "value");
  EXPECT_EQ((*file)->Find("c").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT((*file)->ReadInts("a").status().message(), HasSubstr("tensor a at byte"));
  EXPECT_THAT((*file)->ReadFloats("b").status().message(), HasSubstr("I32"));
}

TEST_F(SafetensorsTest, ReadsAPipe) {
  const std::string bytes = ValidFile(), fifo = dir_.path("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  std::thread writer([&] { WriteFile(fifo, bytes); });
  const auto file = SafetensorsFile::Open(fifo);
  writer.join();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(*(*file)->ReadInts("b"), ElementsAre(5, 6, 7));
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  const std::string whole = ValidFile();
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_THAT(Refusal(whole.substr(0, size)), HasSubstr(path_)) << size;
  }
}

TEST_F(SafetensorsTest, RefusesAbsurdHeaderLengths) {
  for (const uint64_t length : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{17}}) {
    std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
    EXPECT_THAT(Refusal(bytes + std::string(16, ' ')),
                AllOf(HasSubstr("header length"), HasSubstr("byte 0")));
  }
}

TEST_F(SafetensorsTest, NamesTensorAndOffsetOfABadEntry) {
  const auto entry = [](const std::string& fields) { return R"({"w":{)" + fields + "}}"; };
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":[4],"data_offsets":[0,20])")),
              AllOf(HasSubstr("tensor w"), HasSubstr("[0, 20]"), HasSubstr("16 bytes of data")));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])")),
              AllOf(HasSubstr("tensor w at byte"), HasSubstr("ask for 12")));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])")),
              HasSubstr("ascending"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":[4],"data_offsets":[-1,15])")),
              HasSubstr("data_offsets"));
  EXPECT_THAT(
      RefusalOfHeader(entry(
          R"("dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,16])")),
      HasSubstr("overflows"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F7","shape":[16],"data_offsets":[0,16])")),
              HasSubstr("F7 is not supported: give a checkpoint of F32, F16 or BF16, or a GGUF"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F8_E4M3","shape":[15],"data_offsets":[0,16])")),
              HasSubstr("ask for 15"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":[1,1,1,1,4],"data_offsets":[0,16])")),
              HasSubstr("shape"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("dtype":"F32","shape":4.5,"data_offsets":[0,16])")),
              HasSubstr("shape"));
  EXPECT_THAT(RefusalOfHeader(entry(R"("shape":[4],"data_offsets":[0,16])")),
              HasSubstr("missing key \"dtype\""));
  EXPECT_THAT(RefusalOfHeader(R"({"w":7})"), HasSubstr("tensor w"));
  EXPECT_THAT(RefusalOfHeader(R"({"__metadata__":{"k":1}})"), HasSubstr("\"k\""));
}

TEST_F(SafetensorsTest, NamesATypeThatIsNotReadWhenItIsAskedFor) {
  WriteFile(path_,
            RawSafetensors(R"({"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}})", "ab"));
  const auto file = SafetensorsFile::Open(path_);
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::Status status = (*file)->ReadFloats("w").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr(": element type F8_E4M3 is not supported: give a "
                                          "checkpoint of F32, F16 or BF16, or a GGUF file"));
}

TEST_F(SafetensorsTest, RefusesOverlapsHolesAndTrailingBytes) {
  const auto pair = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + a +
           R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + b + "}}";
  };
  EXPECT_EQ(RefusalOfHeader(pair("[0,8]", "[8,16]")), "accepted");
  EXPECT_THAT(RefusalOfHeader(pair("[0,8]", "[4,12]")),
              AllOf(HasSubstr("tensor b"), HasSubstr("overlaps")));
  EXPECT_THAT(RefusalOfHeader(pair("[4,12]", "[0,8]")),
              AllOf(HasSubstr("tensor a"), HasSubstr("overlaps")));
  EXPECT_THAT(RefusalOfHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})"),
              HasSubstr("hole"));
  EXPECT_THAT(RefusalOfHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})"),
              HasSubstr("8 bytes beyond"));
}

TEST_F(SafetensorsTest, RefusesBadJson) {
  EXPECT_THAT(RefusalOfHeader("{"), HasSubstr("malformed"));
  EXPECT_THAT(RefusalOfHeader("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(RefusalOfHeader(std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(RefusalOfHeader(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{}})"),
              HasSubstr("occurs twice"));
}

TEST_F(SafetensorsTest, SurvivesRandomDamage) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const std::string whole = ValidFile();
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = whole;
    for (int flips = 0; flips < 3; ++flips)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    WriteFile(path_, bytes);
    const auto file = SafetensorsFile::Open(path_);
    if (!file.ok()) ++refused;
    if (!file.ok()) continue;
    for (const auto& [name, tensor] :
         (*file)->tensors()) {  // whatever it now is, it is safe to read
      (void)(*file)->ReadFloats(name);
      (void)(*file)->ReadInts(name);
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace pregate
