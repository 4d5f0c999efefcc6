// `pregate synth`: a checkpoint with random weights and the real layout.
#include "cli/model/synth.h"

#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/progress.h"
#include "common/config/option_set.h"

namespace pregate::cli {

int Synth(int argc, const char* const* argv) {
  SynthOptions synth;
  std::optional<uint64_t> seed = 0;
  std::string dtype = "f32";
  bool as_json = false;
  OptionSet options("pregate synth", "Makes a checkpoint with random weights and the real layout.");
  options.Choice("shape", &synth.shape, {"tiny", "smollm2-135m", "llama2-7b"}, "").Required();
  options.Int("layers", &synth.layers, 0, 1024, "layers", "0: as many as the shape has");
  options.Int("experts", &synth.experts, 0, 1024, "experts", "0: a dense model");
  options.Double("shared", &synth.shared, 0, 1, "of the FFN width", "neurons that experts share");
  options.Double("own", &synth.own, 0, 1, "of the FFN width", "further neurons of each expert");
  options.OptionalUint64("seed", &seed, "same seed, same bytes");
  options.Choice("dtype", &dtype, {"f32", "f16", "bf16"}, "of the weights");
  options.String("out", &synth.out, "directory to write; must not exist or be empty").Required();
  options.Switch("json", &as_json, "print one JSON object");
  PARSE_OPTIONS_OR_RETURN(options, "synth", argc, argv);
  synth.seed = *seed;
  synth.dtype = *ParseDType(dtype);
  ProgressLine line("writing MB", as_json);
  synth.progress = [&](const WriteProgress& p) {
    line.Update(p.bytes_done >> 20, p.bytes_total >> 20);
  };
  const auto digest = SynthCheckpoint(synth);
  if (!digest.ok()) return Fail("synth", digest.status());
  if (as_json) {
    PrintJson({{"out", synth.out}, {"digest", *digest}});
  } else {
    std::cerr << "wrote " << synth.out << ", digest " << *digest << "\n";
  }
  return kExitOk;
}

}  // namespace pregate::cli
