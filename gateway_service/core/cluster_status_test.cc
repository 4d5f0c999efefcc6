#include "gateway_service/core/cluster_status.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace pregate::gateway {
namespace {

using Json = nlohmann::ordered_json;

Json Body(const std::vector<SchedulerStatus>& schedulers) {
  return Json::parse(ClusterBody(schedulers));
}

CellStatus Cell() {
  return {.model = "a \"model\"",
          .num_experts = 2,
          .serving = true,
          .epoch = 18446744073709551615u,
          .router_up = true,
          .requests_running = 1,
          .requests_waiting = 2,
          .kv_blocks = 30,
          .kv_blocks_used = 20,
          .kv_blocks_cached = 10,
          .reuse_ratio = 0.5,
          .optimal_reuse_ratio = 0.75,
          .routed_ahead_tokens = 6};
}

TEST(ClusterBodyTest, IsAListOfSchedulers) {
  EXPECT_EQ(Body({}), Json::parse(R"({"object": "cluster", "schedulers": []})"));
}

TEST(ClusterBodyTest, HasAllOfACell) {
  CellStatus cell = Cell();
  cell.workers = {{.rank = 0,
                   .up = true,
                   .member = true,
                   .device = "cpu",
                   .unit_slots = 3,
                   .units = std::string("\2\0\1\3\7\2", 6),
                   .unit_hits = 5,
                   .unit_misses = 6,
                   .stall_us = 7},
                  {.rank = 1}};
  cell.steps = {{.number = 9,
                 .begin_us = 1'700'000'000'000'000,
                 .round_trip_us = 900,
                 .step_us = 800,
                 .decode_rows = 1,
                 .prefill_rows = 2,
                 .prefill_tokens = 33,
                 .draft_tokens = 4,
                 .accepted_draft_tokens = 3,
                 .experts = {0, 1},
                 .unique_experts = 2,
                 .unit_hits = 10,
                 .unit_misses = 11,
                 .stall_us = 12},
                {}};
  const Json scheduler = Body({{.name = "host:1", .cell = cell}})["schedulers"][0];
  EXPECT_EQ(scheduler["name"], "host:1");
  EXPECT_EQ(scheduler["error"], nullptr);
  EXPECT_EQ(scheduler["model"], "a \"model\"");
  EXPECT_EQ(scheduler["epoch"], 18446744073709551615u);
  EXPECT_EQ(scheduler["requests"], Json::parse(R"({"running": 1, "waiting": 2})"));
  EXPECT_EQ(scheduler["kv_blocks"], Json::parse(R"({"all": 30, "used": 20, "cached": 10})"));
  EXPECT_EQ(scheduler["reuse"], Json::parse(R"({"ratio": 0.5, "optimal": 0.75})"));
  EXPECT_EQ(scheduler["routed_ahead_tokens"], 6);
  EXPECT_EQ(scheduler["workers"][0], Json::parse(R"({"rank": 0, "up": true, "member": true,
      "device": "cpu", "unit_slots": 3, "units": ["r.", "lx", "?r"],
      "unit_hits": 5, "unit_misses": 6, "stall_us": 7})"));
  EXPECT_EQ(scheduler["workers"][1]["units"], Json::array());
  EXPECT_EQ(scheduler["steps"][0], Json::parse(R"({"number": 9, "begin_us": 1700000000000000,
      "round_trip_us": 900, "step_us": 800, "decode_rows": 1, "prefill_rows": 2,
      "prefill_tokens": 33, "draft_tokens": 4, "accepted_draft_tokens": 3, "experts": [0, 1],
      "unique_experts": 2, "unit_hits": 10, "unit_misses": 11, "stall_us": 12})"));
  EXPECT_EQ(scheduler["steps"].size(), 2);
}

TEST(ClusterBodyTest, OneThatDoesNotAnswerSaysWhy) {
  const Json body =
      Body({{.name = "a", .why_not = "it is \"down\""}, {.name = "b", .cell = Cell()}});
  EXPECT_EQ(body["schedulers"][0], Json::parse(R"({"name": "a", "error": "it is \"down\""})"));
  EXPECT_EQ(body["schedulers"][1]["serving"], true);
}

TEST(ClusterBodyTest, UnitsThatFillNoLayersAreLeftOut) {
  CellStatus cell = Cell();
  cell.workers = {{.units = "\2\2\2"}};
  EXPECT_EQ(Body({{.cell = cell}})["schedulers"][0]["workers"][0]["units"], Json::array());
  cell.num_experts = 0;
  EXPECT_EQ(Body({{.cell = cell}})["schedulers"][0]["workers"][0]["units"], Json::array());
}

TEST(ClusterBodyTest, SharesThatAreNoneAreCut) {
  CellStatus cell = Cell();
  cell.reuse_ratio = std::numeric_limits<double>::quiet_NaN();
  cell.optimal_reuse_ratio = std::numeric_limits<double>::infinity();
  EXPECT_EQ(Body({{.cell = cell}})["schedulers"][0]["reuse"],
            Json::parse(R"({"ratio": 0.0, "optimal": 1.0})"));
}

}  // namespace
}  // namespace pregate::gateway
