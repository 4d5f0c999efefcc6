// Whatever JSON comes, a request is read or refused with one of the statuses of docs/API.md, and the
// refusal says what is wrong; and the page says how each field is treated.
#include <cstdio>
#include <fstream>
#include <random>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gateway_service/core/anthropic_request.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/openai_request.h"
#include "gtest/gtest.h"

namespace pregate::gateway {
namespace {

using json = Json;

struct Kind {
  const char* name;
  absl::StatusOr<Generation> (*read)(const json&);
  absl::Span<const RequestField> fields;
  json valid;
};

std::vector<Kind> Kinds() {
  const json messages = json::parse(R"([{"role": "user", "content": "Hi"}])");
  return {{"/v1/chat/completions",
           openai::ReadChatRequest,
           openai::ChatFields(),
           {{"messages", messages}}},
          {"/v1/completions",
           openai::ReadCompletionRequest,
           openai::CompletionFields(),
           {{"prompt", "Hi"}}},
          {"/v1/messages",
           anthropic::ReadRequest,
           anthropic::Fields(),
           {{"messages", messages}, {"max_tokens", 3}}}};
}

class RandomJson {
 public:
  explicit RandomJson(uint64_t seed) : random_(seed) {}

  json Value(int depth) {
    switch (random_() % (depth > 0 ? 9 : 7)) {
      case 0:
        return nullptr;
      case 1:
        return random_() % 2 == 0;
      case 2:
        return static_cast<int64_t>(random_() % 5) - 2;
      case 3:
        return random_();
      case 4:
        return std::ldexp(static_cast<double>(random_()) - 9e18,
                          static_cast<int>(random_() % 100) - 80);
      case 5:
        return Word();
      case 6:
        return random_() % 2 == 0 ? json(1e308) : json(-9.3e18);
      case 7: {
        json array = json::array();
        while (random_() % 3 != 0) array.push_back(Value(depth - 1));
        return array;
      }
      default: {
        json object = json::object();
        while (random_() % 4 != 0) object[Word()] = Value(depth - 1);
        return object;
      }
    }
  }
  size_t Below(size_t bound) { return random_() % bound; }

 private:
  std::string Word() {
    static const char* const kWords[] = {
        "role",         "user", "assistant",     "content",       "type", "text",
        "name",         "none", "include_usage", "return_routes", "tool", "",
        "\xC3\xA9\n\"", "x",    "auto",          "disabled"};
    return kWords[random_() % std::size(kWords)];
  }

  std::mt19937_64 random_;
};

TEST(RequestPropertyTest, AnyBodyIsReadOrRefusedInWords) {
  const auto seed = std::random_device()();
  std::printf("seed %u\n", seed);
  RandomJson random(seed);
  size_t num_read = 0;
  for (int i = 0; i < 100000; ++i) {
    const auto kinds = Kinds();
    const Kind& kind = kinds[i % kinds.size()];
    json body = random.Below(20) == 0 ? random.Value(4) : kind.valid;
    for (size_t n = random.Below(4); body.is_object() && n > 0; --n) {
      body[kind.fields[random.Below(kind.fields.size())].name] = random.Value(4);
    }
    const auto read = kind.read(body);
    num_read += read.ok();
    if (read.ok()) continue;
    const ApiError error = ToApiError(read.status());
    ASSERT_EQ(error.http_status, 400) << body << read.status();
    ASSERT_GT(error.message.size(), 5u) << body;
    ASSERT_LT(error.message.size(), 500u) << body;
    ASSERT_FALSE(json::parse(ErrorBody(error, Dialect::kOpenAi)).is_discarded());
    ASSERT_TRUE(!body.is_object() || !error.param.empty() || error.message.rfind("''", 0) == 0)
        << body << error.message;
  }
  EXPECT_GT(num_read, 1000u);
}

const char* Word(Treatment treatment) {
  switch (treatment) {
    case Treatment::kHonoured:
      return "honoured";
    case Treatment::kIgnored:
      return "ignored";
    case Treatment::kRefused:
      return "refused";
  }
  return "";
}

// A row of the page: "| `temperature` | honoured | ...", in the section of its path.
TEST(RequestPropertyTest, ThePageSaysHowEachFieldIsTreated) {
  std::ifstream file("docs/API.md");
  std::stringstream page;
  page << file.rdbuf();
  for (const Kind& kind : Kinds()) {
    const std::string heading = absl::StrCat("### POST ", kind.name, "\n");
    const size_t begin = page.str().find(heading);
    ASSERT_NE(begin, std::string::npos) << heading;
    const std::string section =
        page.str().substr(begin, page.str().find("\n#", begin + heading.size()) - begin);
    std::set<std::string> rows, expected;
    std::istringstream lines(section);
    for (std::string line; std::getline(lines, line);) {
      if (line.rfind("| `", 0) == 0)
        rows.insert(line.substr(0, line.find(" |", line.find(" | ") + 3)));
    }
    for (const RequestField& field : kind.fields) {
      expected.insert(absl::StrCat("| `", field.name, "` | ", Word(field.treatment)));
    }
    EXPECT_EQ(rows, expected) << heading;
  }
}

}  // namespace
}  // namespace pregate::gateway
