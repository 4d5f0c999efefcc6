// `pregate api-token new`: a bearer token for the HTTP API, and its entry in --api-tokens-file.
#include <cstdio>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "common/base/files.h"
#include "common/base/gateway_limits.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/process.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "gateway_service/core/api_tokens.h"

namespace pregate::cli {
namespace {

struct ApiTokenJob {
  std::string tenant, file;
  int32_t priority = 0, concurrent_max = 0, tokens_per_minute = 0;
  bool as_json = false;
};

// 256 bits that nobody guesses.
std::string NewToken() {
  std::string token = "pregate-";
  for (int i = 0; i < 4; ++i) absl::StrAppend(&token, absl::Hex(RandomId(), absl::kZeroPad16));
  return token;
}

nlohmann::json EntryOf(const ApiTokenJob& o, const std::string& token) {
  nlohmann::json entry = {{"sha256", Sha256Hex(token)}, {"tenant", o.tenant}};
  if (o.priority != 0) entry["priority"] = o.priority;
  if (o.concurrent_max != 0) entry["concurrent_max"] = o.concurrent_max;
  if (o.tokens_per_minute != 0) entry["tokens_per_minute"] = o.tokens_per_minute;
  return entry;
}

// The file with one entry more; it is made where it is not there.
absl::Status AddTo(const std::string& path, const nlohmann::json& entry) {
  nlohmann::json file = {{"tokens", nlohmann::json::array()}};
  if (std::filesystem::exists(path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadInput(path, kApiTokensFileBytesMax));
    ASSIGN_OR_RETURN(file, ParseJson(text, path));
    RETURN_IF_ERROR(gateway::ApiTokens::From(file, path).status());
  }
  file["tokens"].push_back(entry);
  RETURN_IF_ERROR(gateway::ApiTokens::From(file, path).status());
  return WriteOutput(path, file.dump(2) + "\n");
}

absl::Status Make(const ApiTokenJob& o) {
  const std::string token = NewToken();
  const nlohmann::json entry = EntryOf(o, token);
  if (o.file.empty()) {
    RETURN_IF_ERROR(gateway::ApiTokens::From({{"tokens", {entry}}}, "the entry").status());
  } else {
    RETURN_IF_ERROR(AddTo(o.file, entry));
  }
  if (o.as_json) {
    PrintJson({{"token", token}, {"entry", entry}});
  } else {
    std::printf("token (shown once; give it to the client): %s\n", token.c_str());
    std::printf(o.file.empty() ? "entry of --api-tokens-file: %s\n" : "added to the file: %s\n",
                entry.dump().c_str());
  }
  return absl::OkStatus();
}

}  // namespace

int ApiTokenNew(int argc, const char* const* argv) {
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max();
  ApiTokenJob o;
  OptionSet set("pregate api-token new",
                "Makes a bearer token for the HTTP API. The server's file has only its hash.");
  set.String("tenant", &o.tenant, "for whom it is").Required();
  set.String("file", &o.file,
             "add the entry to this --api-tokens-file; servers take it in a second");
  set.Int("priority", &o.priority, -kPriorityMax, kPriorityMax, "",
          "of its requests: higher ones are served first");
  set.Count("concurrent-max", &o.concurrent_max, 0, kMax, "requests", "at once; 0: any number");
  set.Count("tokens-per-minute", &o.tokens_per_minute, 0, kMax, "tokens",
            "of prompts and answers; 0: any number");
  set.Switch("json", &o.as_json, "print one JSON object");
  PARSE_OPTIONS_OR_RETURN(set, "api-token new", argc, argv);
  const absl::Status status = Make(o);
  return status.ok() ? kExitOk : Fail("api-token new", status);
}

}  // namespace pregate::cli
