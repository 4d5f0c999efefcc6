#include "scheduler_service/edge/served_model.h"

#include "common/base/status.h"
#include "common/model/formats/checkpoint.h"
#include "common/telemetry/start.h"

namespace pregate {

absl::StatusOr<ServedModel> LoadServedModel(const std::string& path, const std::string& name) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(path));
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, checkpoint->LoadTokenizer());
  const std::optional<ToolFormat> tool_format = FindToolFormat(*tokenizer);
  return ServedModel{.name = name.empty() ? ModelNameOf(path) : name,
                     .digest = checkpoint->digest(),
                     .spec = checkpoint->spec(),
                     .tokenizer = std::move(tokenizer),
                     .tool_format = tool_format};
}

}  // namespace pregate
