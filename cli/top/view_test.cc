#include "cli/top/view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace pregate::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SourceSample Up(const std::string& address, int second, const std::string& text) {
  auto samples = ParseExposition(text);
  EXPECT_TRUE(samples.ok()) << samples.status();
  return {address, absl::FromUnixSeconds(second), Scrape(*std::move(samples)), ""};
}
SourceSample Down(const std::string& address, int second) {
  return {address, absl::FromUnixSeconds(second), std::nullopt, "connection refused"};
}

constexpr char kSchedulerBefore[] =
    "pregate_num_requests_running{model=\"m\"} 1\n"
    "pregate_requests_total{model=\"m\",finish_reason=\"length\"} 10\n"
    "pregate_generation_tokens_total{model=\"m\"} 100\n"
    "pregate_prompt_tokens_total{model=\"m\"} 50\n"
    "pregate_expert_tokens_total{model=\"m\",expert=\"0\"} 5\n"
    "pregate_expert_tokens_total{model=\"m\",expert=\"1\"} 5\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"0.01\"} 100\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"0.02\"} 100\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"+Inf\"} 100\n";
constexpr char kSchedulerNow[] =
    "pregate_num_requests_running{model=\"m\"} 3\n"
    "pregate_num_requests_waiting{model=\"m\"} 4\n"
    "pregate_kv_cache_usage_ratio{model=\"m\"} 0.25\n"
    "pregate_worker_up{model=\"m\",rank=\"0\"} 1\n"
    "pregate_worker_up{model=\"m\",rank=\"1\"} 0\n"
    "pregate_requests_total{model=\"m\",finish_reason=\"length\"} 14\n"
    "pregate_requests_total{model=\"m\",finish_reason=\"refused\"} 2\n"
    "pregate_generation_tokens_total{model=\"m\"} 300\n"
    "pregate_prompt_tokens_total{model=\"m\"} 50\n"
    "pregate_prefix_cache_queries_total{model=\"m\"} 80\n"
    "pregate_prefix_cache_hits_total{model=\"m\"} 60\n"
    "pregate_expert_tokens_total{model=\"m\",expert=\"0\"} 35\n"
    "pregate_expert_tokens_total{model=\"m\",expert=\"1\"} 15\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"0.01\"} 100\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"0.02\"} 140\n"
    "pregate_inter_token_latency_seconds_bucket{le=\"+Inf\"} 140\n";
constexpr char kWorkerBefore[] =
    "pregate_worker_links{rank=\"0\"} 1\n"
    "pregate_expert_cache_hits_total{rank=\"0\"} 100\n"
    "pregate_expert_cache_misses_total{rank=\"0\"} 0\n"
    "pregate_expert_cache_loads_total{rank=\"0\"} 7\n"
    "pregate_expert_stall_seconds_total{rank=\"0\"} 1\n";
constexpr char kWorkerNow[] =
    "pregate_worker_links{rank=\"0\"} 1\n"
    "pregate_expert_resident_units{rank=\"0\"} 60\n"
    "pregate_expert_cache_slots{rank=\"0\"} 90\n"
    "pregate_expert_resident_bytes{rank=\"0\"} 3145728\n"
    "pregate_expert_cache_hits_total{rank=\"0\"} 130\n"
    "pregate_expert_cache_misses_total{rank=\"0\"} 10\n"
    "pregate_expert_cache_loads_total{rank=\"0\"} 17\n"
    "pregate_expert_stall_seconds_total{rank=\"0\"} 1.5\n";

TopView View() {
  return MakeView({Up("s:1", 10, kSchedulerBefore), Up("w:1", 10, kWorkerBefore), Down("r:1", 10)},
                  {Up("s:1", 12, kSchedulerNow), Up("w:1", 12, kWorkerNow), Down("r:1", 12)});
}

TEST(TopViewTest, TellsTheIntervalFromTwoScrapes) {
  const TopView view = View();
  EXPECT_EQ(view.model, "m");
  EXPECT_EQ(view.interval_s, 2);
  EXPECT_EQ(view.running, 3);
  EXPECT_EQ(view.waiting, 4);
  EXPECT_EQ(view.kv_usage_ratio, 0.25);
  // A series that appeared rose from nothing.
  EXPECT_EQ(view.finished_per_s, (std::map<std::string, double>{{"length", 2}, {"refused", 1}}));
  EXPECT_EQ(view.generated_tokens_per_s, 100);
  EXPECT_EQ(view.prompt_tokens_per_s, 0);
  EXPECT_EQ(view.found_tokens_ratio, 0.75);
  EXPECT_EQ(view.expert_tokens_per_s, (std::map<int, double>{{0, 15}, {1, 5}}));
  EXPECT_NEAR(*view.itl.p50_s, 0.015, 1e-12);  // of this interval's 40, not of all 140
  EXPECT_NEAR(*view.itl.p95_s, 0.0195, 1e-12);
  EXPECT_EQ(view.ttft.p50_s, std::nullopt);
  EXPECT_EQ(view.router_up, std::nullopt);
}

TEST(TopViewTest, ListsWorkersThatAreReadAndThoseThatOnlyTheSchedulerKnows) {
  const TopView view = View();
  ASSERT_EQ(view.workers.size(), 2u);
  const WorkerView& first = view.workers[0];
  EXPECT_EQ(first.rank, "0");
  EXPECT_EQ(first.address, "w:1");
  EXPECT_EQ(first.attached, true);
  EXPECT_EQ(first.units, 60);
  EXPECT_EQ(first.slots, 90);
  EXPECT_EQ(first.hit_ratio, 0.75);
  EXPECT_EQ(first.loads_per_s, 5);
  EXPECT_EQ(first.stall_ms_per_s, 250);
  EXPECT_EQ(view.workers[1].rank, "1");
  EXPECT_EQ(view.workers[1].attached, false);
  EXPECT_EQ(view.workers[1].address, "");
}

TEST(TopViewTest, SortsRanksAsNumbersOnOnePort) {
  std::string text;
  for (const char* rank : {"10", "9", "0"}) {
    absl::StrAppend(&text, "pregate_worker_links{rank=\"", rank, "\"} 1\n");
  }
  const TopView view = MakeView({Up("a:1", 0, text)}, {Up("a:1", 1, text)});
  ASSERT_EQ(view.workers.size(), 3u);
  EXPECT_EQ(view.workers[0].rank + view.workers[1].rank + view.workers[2].rank, "0910");
}

TEST(TopViewTest, ASourceThatWasDownHasNoRates) {
  const TopView view = MakeView({Down("s:1", 10)}, {Up("s:1", 12, kSchedulerNow)});
  EXPECT_EQ(view.running, 3);
  EXPECT_EQ(view.generated_tokens_per_s, std::nullopt);
  EXPECT_TRUE(view.finished_per_s.empty());
  EXPECT_EQ(view.itl.p50_s, std::nullopt);
}

TEST(TopViewTest, AllDownIsAViewToo) {
  const TopView view = MakeView({Down("s:1", 10)}, {Down("s:1", 12)});
  EXPECT_EQ(view.running, std::nullopt);
  EXPECT_THAT(ToText(view, 100), HasSubstr("DOWN      s:1: connection refused"));
  EXPECT_THAT(ToText(view, 100), HasSubstr("running - · waiting -"));
  EXPECT_FALSE(ToJson(view)["sources"][0]["up"].get<bool>());
}

TEST(TopTextTest, ShowsWhatTheViewHolds) {
  const std::string text = ToText(View(), 200);
  for (const char* part :
       {"model     m · over 2.00 s\n", "running 3 · waiting 4", "KV 25.0%",
        "length 2.0/s · refused 1.0/s",
        "prompt 0.0/s · generated 100.0/s · found in the prefix cache 75.0%", "ITL p50 15.0 ms",
        "experts   █▃  0: 75% · 1: 25%", "60/90 3.0 MiB", "75.0%", "250.0",
        "DOWN      r:1: connection refused", "(its metrics are not read)"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, Not(HasSubstr("router  ")));
}

// Negative and endless values, and sums that overflow, of everything that is shown.
TEST(TopTextTest, HostileNumbersChangeNoMoreThanNumbers) {
  const char* const kBefore[] = {"0", "5", "-5", "1e308", "+Inf"};
  const char* const kNow[] = {"-1e300", "-Inf", "+Inf", "NaN", "1e308", "3"};
  for (const char* before : kBefore) {
    for (const char* now : kNow) {
      SCOPED_TRACE(absl::StrCat(before, " -> ", now));
      const auto page = [](const std::string& value) {
        std::string text = "pregate_worker_links{rank=\"0\"} 1\n";
        for (const char* expert : {"0", "1", "2"}) {
          for (const char* other : {"a", "b"}) {
            absl::StrAppend(&text, "pregate_expert_tokens_total{expert=\"", expert, "\",x=\"",
                            other, "\"} ", *expert == '2' ? "7" : value, "\n");
          }
        }
        for (const char* bound : {"-Inf", "-1", "0.1", "NaN", "+Inf"}) {
          absl::StrAppend(&text, "pregate_worker_step_seconds_bucket{rank=\"0\",le=\"", bound,
                          "\"} ", value, "\n");
        }
        return text;
      };
      const TopView view = MakeView({Up("s:1", 1, page(before))}, {Up("s:1", 2, page(now))});
      for (const auto& [expert, rate] : view.expert_tokens_per_s) EXPECT_GE(rate, 0);
      const std::string text = ToText(view, 400);
      EXPECT_THAT(text, HasSubstr("experts   "));
      EXPECT_THAT(text, Not(HasSubstr("nan")));
      EXPECT_THAT(text, Not(HasSubstr("-1")));
      ToJson(view).dump();
    }
  }
}

TEST(TopTextTest, LabelsNeitherSteerTheTerminalNorForgeLines) {
  const TopView view =
      MakeView({Up("s:1", 1, "")},
               {Up("s:1", 2,
                   "pregate_worker_links{model=\"m\x1b[2J\",rank=\"0\\nDOWN forged\"} 1\n"
                   "pregate_requests_total{finish_reason=\"x\xC2\x9B"
                   "1m\"} 5\n")});
  const std::string text = ToText(view, 200);
  EXPECT_THAT(text, HasSubstr("m�[2J"));
  EXPECT_THAT(text, HasSubstr("0�DOWN forged"));
  EXPECT_THAT(text, HasSubstr("x�1m 5.0/s"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(TopTextTest, ClipsLinesByCharacters) {
  for (const auto line : absl::StrSplit(ToText(View(), 20), '\n')) {
    int characters = 0;
    for (const char c : line) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    EXPECT_LE(characters, 20) << line;
  }
}

TEST(TopTextTest, JsonHasNullForWhatIsNotKnown) {
  const nlohmann::json json = ToJson(View());
  EXPECT_EQ(json["generated_tokens_per_s"], 100);
  EXPECT_TRUE(json["ttft_s"]["p50"].is_null());
  EXPECT_EQ(json["workers"][0]["hit_ratio"], 0.75);
  EXPECT_TRUE(json["workers"][1]["hit_ratio"].is_null());
  EXPECT_EQ(json["finished_per_s"]["length"], 2);
  EXPECT_EQ(json["expert_tokens_per_s"]["0"], 15);
}

}  // namespace
}  // namespace pregate::cli
