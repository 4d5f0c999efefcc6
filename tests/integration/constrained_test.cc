// Answers whose text is held to a constraint, from real processes and a model of random weights:
// nothing but the masks makes them valid.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <regex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/grammar/testing/random_schema.h"
#include "common/grammar/testing/schema_validator.h"
#include "tests/integration/cluster.h"

namespace pregate::testing {
namespace {

using ::testing::HasSubstr;

uint64_t Seed() {
  const char* given = std::getenv("PREGATE_TEST_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("PREGATE_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

// The token that is this text; fails the test where it is none.
int32_t TokenOf(Cluster& cluster, const std::string& text) {
  v1::TokenizeRequest request;
  request.set_text(text);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(cluster.stub().Tokenize(&context, request, &response).ok());
  EXPECT_FALSE(response.ids().empty());
  return response.ids(response.ids_size() - 1);
}

// An answer with a constraint ends where its text does.
v1::GenerateRequest EndingRequest(const std::string& text, int max_tokens, float temperature = 0,
                                  uint64_t seed = 1) {
  v1::GenerateRequest request = Request(text, max_tokens, temperature, seed);
  request.set_ignore_eos(false);
  return request;
}

// At temperature 1 a random model says anything; what closes something is made likelier, so that
// texts end.
v1::GenerateRequest RandomRequest(int i, int max_tokens, const std::vector<int32_t>& closing) {
  v1::GenerateRequest request =
      EndingRequest(absl::StrCat("Request ", i, " asks for "), max_tokens, 1.0f, 100 + i);
  for (const int32_t token : closing) {
    (*request.mutable_sampling()->mutable_logit_bias())[token] = 4;
  }
  return request;
}

std::vector<Generation> GenerateAll(Cluster& cluster,
                                    const std::vector<v1::GenerateRequest>& requests) {
  std::vector<Generation> all(requests.size());
  std::vector<std::thread> clients;
  for (size_t i = 0; i < requests.size(); ++i) {
    clients.emplace_back([&, i] { all[i] = Generate(cluster.stub(), requests[i]); });
  }
  for (std::thread& t : clients) t.join();
  return all;
}

v1::GenerateRequest Resumed(const v1::GenerateRequest& request, const Generation& whole,
                            size_t tokens) {
  v1::GenerateRequest again = request;
  v1::Resume* resume = again.mutable_resume();
  for (size_t i = 0; i < tokens; ++i) {
    resume->add_tokens(whole.ids[i]);
    resume->add_routes(whole.routes[i]);
  }
  resume->set_seed(whole.start.seed());
  resume->set_model_digest(whole.start.model_digest());
  resume->set_numerics_id(whole.start.numerics_id());
  return again;
}

void ExpectValid(const Generation& g, const Schema& schema) {
  const Schema value = Schema::parse(g.text, nullptr, /*allow_exceptions=*/false);
  ASSERT_FALSE(value.is_discarded()) << g.text;
  EXPECT_TRUE(IsValid(value, schema, schema)) << g.text << "\n" << schema.dump();
}

// Thirty schemas at once beside requests without one, on workers that hold them all and on such that
// have to preempt; then each again from its middle.
TEST(ConstrainedTest, AnswersThatEndByThemselvesAreValidWhateverHappensOnTheWay) {
  std::mt19937_64 random(Seed());
  Cluster roomy({});
  roomy.AwaitReady();
  const std::vector<int32_t> closing = {TokenOf(roomy, "\""), TokenOf(roomy, "}"),
                                        TokenOf(roomy, "]")};
  std::vector<Schema> schemas;
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 30; ++i) {
    schemas.push_back(RandomSchema(random));
    requests.push_back(RandomRequest(i, 120, closing));
    requests.back().set_json_schema(schemas.back().dump());
  }
  for (int i = 30; i < 34; ++i) requests.push_back(RandomRequest(i, 40, {}));
  const std::vector<Generation> all = GenerateAll(roomy, requests);
  int ended = 0, refused = 0;
  for (size_t i = 0; i < schemas.size(); ++i) {
    if (all[i].status.error_code() == grpc::INVALID_ARGUMENT) {  // a schema without a text
      EXPECT_THAT(all[i].status.error_message(), HasSubstr("json_schema"));
      ++refused;
      continue;
    }
    ASSERT_TRUE(all[i].status.ok()) << i << ": " << all[i].status.error_message();
    if (all[i].done.finish_reason() != v1::FINISH_REASON_STOP_TOKEN) continue;
    ++ended;
    ExpectValid(all[i], schemas[i]);
  }
  EXPECT_GT(ended, 15);
  EXPECT_LT(refused, 5);

  Cluster tight({.worker_flags = {"--kv-blocks", "12"}});
  tight.AwaitReady();
  const std::vector<Generation> again = GenerateAll(tight, requests);
  int preemptions = 0;
  std::vector<v1::GenerateRequest> halves;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(again[i].status.error_code(), all[i].status.error_code());
    EXPECT_EQ(again[i].ids, all[i].ids) << i;
    preemptions += again[i].done.usage().preemptions();
    if (all[i].ids.size() > 1) {
      halves.push_back(Resumed(requests[i], all[i], all[i].ids.size() / 2));
    }
  }
  EXPECT_GT(preemptions, 0);
  const std::vector<Generation> rests = GenerateAll(roomy, halves);
  size_t at = 0;
  for (const Generation& whole : all) {
    if (whole.ids.size() < 2) continue;
    const Generation& rest = rests[at++];
    ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
    EXPECT_EQ(rest.ids,
              std::vector<int32_t>(whole.ids.begin() + whole.ids.size() / 2, whole.ids.end()));
  }
}

TEST(ConstrainedTest, ExpressionsChoicesObjectsAndSeveralChoicesOfOnePrompt) {
  Cluster cluster({.one_process = true});
  cluster.AwaitReady();
  const std::vector<int32_t> closing = {TokenOf(cluster, "\""), TokenOf(cluster, "}")};
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(RandomRequest(i, 200, closing));
    if (i % 3 == 0) requests.back().set_regex("[a-f]{2,4}(-\\d{2}){1,3}");
    if (i % 3 == 1) {
      for (const char* text : {"yes", "no", "maybe so"}) {
        requests.back().mutable_choice()->add_texts(text);
      }
    }
    if (i % 3 == 2) requests.back().set_json_object(true);
  }
  const std::vector<Generation> all = GenerateAll(cluster, requests);
  const std::regex forms[] = {std::regex("[a-f]{2,4}(-[0-9]{2}){1,3}"),
                              std::regex("yes|no|maybe so")};
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(all[i].status.ok()) << all[i].status.error_message();
    if (all[i].done.finish_reason() != v1::FINISH_REASON_STOP_TOKEN) continue;
    if (i % 3 == 2) {
      ExpectValid(all[i], Schema{{"type", "object"}});
    } else {
      EXPECT_TRUE(std::regex_match(all[i].text, forms[i % 3])) << all[i].text;
    }
  }
  for (const size_t i : {0, 1, 3, 4}) {  // these cannot but end
    EXPECT_EQ(all[i].done.finish_reason(), v1::FINISH_REASON_STOP_TOKEN) << all[i].text;
  }
}

TEST(ConstrainedTest, WhatCannotBeHeldIsRefusedByName) {
  Cluster cluster({.one_process = true});
  cluster.AwaitReady();
  struct Case {
    void (*change)(v1::GenerateRequest&);
    const char* named;
  };
  const Case cases[] = {
      {[](auto& r) { r.set_json_schema(R"({"properties": {"a": {"multipleOf": 3}}})"); },
       "/properties/a/multipleOf"},
      {[](auto& r) { r.set_json_schema("{"); }, "json_schema: malformed JSON"},
      {[](auto& r) { r.set_json_schema(std::string(300 << 10, ' ')); }, "307200 bytes"},
      {[](auto& r) { r.set_regex("(?=a)"); }, "looking ahead"},
      {[](auto& r) { r.set_regex("(a|b)*a(a|b){30}"); }, "regex: too large"},
      {[](auto& r) { r.mutable_choice(); }, "choice"},
      {[](auto& r) { r.set_json_object(false); }, "json_object"},
      {[](auto& r) {
         r.set_json_object(true);
         r.add_stop_strings("x");
       },
       "stop_strings"},
      {[](auto& r) {
         r.set_json_object(true);
         r.set_ignore_eos(true);
       },
       "ignore_eos"},
  };
  for (const Case& c : cases) {
    v1::GenerateRequest request = EndingRequest("hello", 8);
    c.change(request);
    const Generation g = Generate(cluster.stub(), request);
    EXPECT_EQ(g.status.error_code(), grpc::INVALID_ARGUMENT) << c.named;
    EXPECT_THAT(g.status.error_message(), HasSubstr(c.named));
  }
  // Tokens of a stream that no constraint would have let through.
  const Generation plain = Generate(cluster.stub(), Request("hello", 8));
  ASSERT_TRUE(plain.status.ok()) << plain.status.error_message();
  v1::GenerateRequest request = EndingRequest("hello", 8);
  request.set_regex("~~~~~~");
  const Generation g = Generate(cluster.stub(), Resumed(request, plain, 4));
  EXPECT_EQ(g.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(g.status.error_message(), HasSubstr("not what the constraint allows"));
}

}  // namespace
}  // namespace pregate::testing
