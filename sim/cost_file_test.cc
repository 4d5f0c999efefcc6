#include "sim/cost_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace pregate::sim {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json Good() {
  return {{"machine", "m"},
          {"source", "measured"},
          {"model", {{"layers", 3}, {"experts", 5}}},
          {"step",
           {{"base_s", 1e-3},
            {"token_s", 1e-4},
            {"expert_read_s", 1e-5},
            {"key_s", 1e-8},
            {"pair_s", 1e-9},
            {"sample_s", 0}}},
          {"unit", {{"load_s", 2e-3}}},
          {"router", {{"request_s", 1e-3}, {"token_s", 1e-5}}},
          {"link_s", 1e-4}};
}

TEST(CostFileTest, ReadsEveryCost) {
  const auto costs = ParseCosts(Good().dump());
  ASSERT_TRUE(costs.ok()) << costs.status();
  EXPECT_EQ(costs->layers, 3);
  EXPECT_EQ(costs->experts, 5);
  EXPECT_EQ(costs->token_s, 1e-4);
  EXPECT_EQ(costs->unit_load_s, 2e-3);
  EXPECT_EQ(costs->route_token_s, 1e-5);
  EXPECT_EQ(costs->link_s, 1e-4);
}

TEST(CostFileTest, ErrorsNameTheField) {
  const auto error = [](const char* pointer, const Json& value) {
    Json bad = Good();
    bad[Json::json_pointer(pointer)] = value;
    const auto costs = ParseCosts(bad.dump());
    return costs.ok() ? "" : std::string(costs.status().message());
  };
  EXPECT_THAT(error("/step/base_s", -1), HasSubstr("step.base_s is -1"));
  EXPECT_THAT(error("/step/base_s", "1"), HasSubstr("step.base_s must be a number"));
  EXPECT_THAT(error("/unit/load_s", 1e9), HasSubstr("unit.load_s"));
  EXPECT_THAT(error("/unit", 3), HasSubstr("unit.load_s"));
  EXPECT_THAT(error("/model/layers", 0), HasSubstr("model.layers"));
  EXPECT_THAT(error("/model/experts", 2.5), HasSubstr("model.experts"));
  EXPECT_THAT(error("/machine", nullptr), HasSubstr("machine must be a string"));
  EXPECT_THAT(std::string(ParseCosts("{").status().message()), HasSubstr("malformed JSON"));
  EXPECT_TRUE(ParseCosts("\xEF\xBB\xBF" + Good().dump()).ok());
  EXPECT_FALSE(ParseCosts("[]").ok());
}

}  // namespace
}  // namespace pregate::sim
