// `pregate inspect`: what a checkpoint holds; with --verify all bytes are read and checked.
#include "cli/model/inspect.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "common/config/option_set.h"

namespace pregate::cli {

int Inspect(int argc, const char* const* argv) {
  std::string dir;
  bool verify = false, as_json = false;
  OptionSet options("pregate inspect", "Shows what a checkpoint holds.");
  options.String("model", &dir, "pregate or HF directory, or GGUF file").Required().Positional();
  options.Switch("verify", &verify, "read all bytes and compare with the manifest");
  options.Switch("json", &as_json, "print one line of JSON instead of an indented form");
  PARSE_OPTIONS_OR_RETURN(options, "inspect", argc, argv);
  const auto report = InspectCheckpoint(dir, verify);
  if (!report.ok()) return Fail("inspect", report.status());
  std::cout << report->dump(as_json ? -1 : 2, ' ', false, nlohmann::json::error_handler_t::replace)
            << "\n";
  return kExitOk;
}

}  // namespace pregate::cli
