// `pregate import`: a foreign checkpoint in our own format.
#include "cli/model/import.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/progress.h"
#include "common/config/option_set.h"

namespace pregate::cli {

int Import(int argc, const char* const* argv) {
  ImportOptions import;
  std::string dtype;
  bool as_json = false;
  OptionSet options("pregate import", "Turns a foreign checkpoint into a pregate directory.");
  options.Choice("from", &import.from, {"authors", "hf", "gguf"}, "what --in is").Required();
  options.String("in", &import.in, "directory, or GGUF file").Required();
  options.String("out", &import.out, "directory to write; must not exist or be empty").Required();
  options.Choice("dtype", &dtype, {"", "f32", "f16", "bf16"},
                 "of the weights; default: the source's");
  options.Switch("json", &as_json, "print one JSON object");
  PARSE_OPTIONS_OR_RETURN(options, "import", argc, argv);
  if (!dtype.empty()) import.dtype = *ParseDType(dtype);
  ProgressLine line("writing MB", as_json);
  import.progress = [&](const WriteProgress& p) {
    line.Update(p.bytes_done >> 20, p.bytes_total >> 20);
};
const auto digest = ImportCheckpoint(import);
if (!digest.ok()) return Fail("import", digest.status());
if (as_json) {
  PrintJson({{"out", import.out}, {"digest", *digest}});
} else {
  std::cerr << "wrote " << import.out << ", digest " << *digest << "\n";
}
return kExitOk;
}  // namespace pregate::cli

}  // namespace pregate::cli
