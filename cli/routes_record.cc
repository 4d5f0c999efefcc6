// `pregate routes record`: the routes that a model's router gives text files, for `pregate simulate`.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/model/authors_layout.h"
#include "cli/progress.h"
#include "cli/read_file.h"
#include "common/base/files.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/tokenizer/tokenizer.h"
#include "router_service/engine/offline_router.h"
#include "sim/route_record.h"

namespace pregate::cli {
namespace {

struct RecordFlags {
  std::string model, out;
  std::vector<std::string> texts;
  int32_t window_tokens = 2048, tokens_max = 0, threads = 0;
  bool as_json = false;
};

void Declare(OptionSet& set, RecordFlags* o) {
  set.String("model", &o->model, "pregate or HF directory with a router").Required();
  set.Strings("text", &o->texts, "UTF-8 text files; each is one text of the record").Required();
  set.String("out", &o->out, "file of routes to write").Required();
  set.Int("window-tokens", &o->window_tokens, 1, kContextTokensMax, "tokens",
          "that the router sees at once; the next window begins anew. At most the model's context");
  set.Int("tokens-max", &o->tokens_max, 0, sim::kRecordTokensMax, "tokens",
          "of each file, the first ones; 0: all");
  set.Int("threads", &o->threads, 0, kThreadsMax, "threads", "0: all cores");
  set.Switch("json", &o->as_json, "print one JSON object");
}

int64_t CountKept(const std::vector<ExpertId>& routes) {
  int64_t kept = 0;
  for (size_t i = 1; i < routes.size(); ++i) kept += routes[i] == routes[i - 1];
  return kept;
}

// One window after the other.
absl::StatusOr<std::vector<ExpertId>> RoutesOf(absl::Span<const TokenId> tokens, size_t window,
                                               OfflineRouter& router, ProgressLine& progress) {
  std::vector<ExpertId> routes;
  while (!tokens.empty()) {
    ASSIGN_OR_RETURN(const RoutedTokens routed, router.RouteAll(tokens.subspan(0, window)));
    routes.insert(routes.end(), routed.routes.begin(), routed.routes.end());
    tokens.remove_prefix(std::min(window, tokens.size()));
    progress.Update(routes.size(), routes.size() + tokens.size());
  }
  return routes;
}

absl::Status Record(const RecordFlags& o) {
  ASSIGN_OR_RETURN(const auto checkpoint, OpenCheckpoint(o.model));
  ASSIGN_OR_RETURN(const auto tokenizer, checkpoint->LoadTokenizer());
  const auto device = MakeCpuDevice({.threads = o.threads});
  const int window = std::min<int>(o.window_tokens, checkpoint->spec().max_position);
  ASSIGN_OR_RETURN(const auto router, OfflineRouter::Create(*checkpoint, *device, window));
  sim::RouteRecord record;
  record.num_experts = router->num_experts();
  record.model = std::filesystem::path(o.model).lexically_normal().filename().string();
  int64_t tokens = 0, kept = 0;
  for (const std::string& path : o.texts) {
    ASSIGN_OR_RETURN(const std::string text, ReadTextFile("text", path));
    std::vector<TokenId> ids = tokenizer->Encode(text);
    if (o.tokens_max > 0 && ids.size() > static_cast<size_t>(o.tokens_max))
      ids.resize(o.tokens_max);
    if (ids.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--text: '", path, "' has no token"));
    }
    ProgressLine progress("tokens", o.as_json);
    ASSIGN_OR_RETURN(record.texts.emplace_back(), RoutesOf(ids, window, *router, progress));
    tokens += static_cast<int64_t>(ids.size());
    kept += CountKept(record.texts.back());
  }
  if (tokens > sim::kRecordTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("--text: ", tokens, " tokens, a record holds ", sim::kRecordTokensMax));
  }
  RETURN_IF_ERROR(WriteOutput(o.out, sim::FormatRoutes(record)));
  const double share = static_cast<double>(kept) / static_cast<double>(tokens);
  if (o.as_json) {
    PrintJson({{"out", o.out},
               {"experts", record.num_experts},
               {"texts", record.texts.size()},
               {"tokens", tokens},
               {"kept_ratio", share}});
  } else {
    std::fprintf(stderr, "wrote %s: %lld tokens, %.1f%% keep the expert of the one before\n",
                 o.out.c_str(), static_cast<long long>(tokens), 100 * share);
  }
  return absl::OkStatus();
}

}  // namespace

int RoutesRecord(int argc, const char* const* argv) {
  RecordFlags o;
  OptionSet set("pregate routes record",
                "Writes the routes that a model's router gives text files. `pregate simulate "
                "--routes` replays them.");
  Declare(set, &o);
  PARSE_OPTIONS_OR_RETURN(set, "routes record", argc, argv);
  const absl::Status status = Record(o);
  return status.ok() ? kExitOk : Fail("routes record", status);
}

}  // namespace pregate::cli
