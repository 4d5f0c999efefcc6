#include "refactor/calibrate.h"

#include <algorithm>

#include "common/base/status.h"
#include "refactor/energy_code.h"

namespace pregate {
namespace {

constexpr absl::Duration kSaveEvery = absl::Seconds(30);
constexpr const char* kRecord = "calibrate.json";
constexpr const char* kLog = "activations.bin";

absl::Status LogWindows(const DenseForward& model, const Corpus& corpus,
                        const std::vector<std::vector<float>>& down_norms, int first, int num,
                        ActivationLog& log) {
  const int64_t width = log.width(), window = corpus.window_tokens, rows = num * window;
  std::vector<uint8_t> codes(rows * width);
  std::vector<float> energies(rows);
  const auto visit = [&](int layer, absl::Span<const float> h, absl::Span<const float>) {
    for (int64_t r = 0; r < rows; ++r) {
      energies[r] = EncodeShares(h.subspan(r * width, width), down_norms[layer],
                                 absl::MakeSpan(codes).subspan(r * width, width));
    }
    return log.Write(layer, first * window, codes, energies);
  };
  return model.Run(absl::MakeConstSpan(corpus.tokens).subspan(first * window, rows),
                   corpus.window_tokens, visit);
}

}  // namespace

absl::StatusOr<bool> Calibrate(const DenseForward& model, const ModelSpec& spec,
                               const Corpus& corpus, const nlohmann::json& inputs, WorkFolder& work,
                               Clock& clock, const StageHooks& hooks) {
  ASSIGN_OR_RETURN(const auto record, work.Read(kRecord, inputs));
  if (!record) RETURN_IF_ERROR(work.Remove(kLog));
  int done = work.Has(kLog) ? record->value("windows", 0) : 0;
  ASSIGN_OR_RETURN(const auto log, OpenActivations(work, spec, corpus));
  const auto save = [&]() -> absl::Status {
    RETURN_IF_ERROR(log->Sync());
    return work.Write(kRecord, {{"inputs", inputs}, {"windows", done}});
  };
  ASSIGN_OR_RETURN(const auto down_norms, model.DownNorms());
  absl::Time saved_at = clock.Now();
  while (done < corpus.num_windows()) {
    if (hooks.stop()) {
      RETURN_IF_ERROR(save());
      return false;
    }
    const int num =
        std::min(model.windows_at_a_time(corpus.window_tokens), corpus.num_windows() - done);
    RETURN_IF_ERROR(LogWindows(model, corpus, down_norms, done, num, *log));
    done += num;
    hooks.progress(static_cast<double>(done) / corpus.num_windows(), "");
    if (clock.Now() - saved_at < kSaveEvery) continue;
    RETURN_IF_ERROR(save());
    saved_at = clock.Now();
  }
  RETURN_IF_ERROR(save());
  return true;
}

absl::StatusOr<std::unique_ptr<ActivationLog>> OpenActivations(const WorkFolder& work,
                                                               const ModelSpec& spec,
                                                               const Corpus& corpus) {
  return ActivationLog::Open(work.File(kLog), spec.num_layers,
                             static_cast<int64_t>(corpus.tokens.size()), spec.intermediate);
}

absl::Status RemoveActivations(const WorkFolder& work) {
  RETURN_IF_ERROR(work.Remove(kRecord));
  return work.Remove(kLog);
}

}  // namespace pregate
