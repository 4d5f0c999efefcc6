// The client API's messages to and from the engine's structs: what a request may say is checked
// here as far as the edge knows it (text, names, what is not built); ranges and the context are
// admission's (scheduler_service/core/admission.h). Text is tokenised here and never becomes a
// special token.
#pragma once

#include <grpcpp/support/status.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/grammar/constraint.h"
#include "common/step/control.h"
#include "pregate/v1/inference.pb.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/edge/served_model.h"

namespace pregate {

// INVALID_ARGUMENT, NOT_FOUND (another model), UNIMPLEMENTED (not built yet), FAILED_PRECONDITION
// (a resume from another model or numerics id), UNAVAILABLE (a resume before a worker has
// attached).
absl::StatusOr<GenerateRequest> DecodeGenerateRequest(const v1::GenerateRequest& in,
                                                      const ServedModel& model,
                                                      const WorkerFacts& facts,
                                                      absl::Time deadline);
// What the text must be, if anything; INVALID_ARGUMENT where another field cannot stand beside it.
// It is compiled by others: constraint_compiler.h.
absl::StatusOr<std::optional<Constraint>> DecodeConstraint(const v1::GenerateRequest& in,
                                                           const ServedModel& model);
absl::StatusOr<std::vector<TokenId>> DecodeTokenizeRequest(const v1::TokenizeRequest& in,
                                                           const ServedModel& model);
absl::StatusOr<std::string> DecodeDetokenizeRequest(const v1::DetokenizeRequest& in,
                                                    const ServedModel& model);

v1::GenerateResponse EncodeStart(const StartInfo& info, const std::string& request_id,
                                 bool return_routes);
v1::GenerateResponse EncodePrompt(const PromptOut& out, const Tokenizer& tokenizer);
v1::GenerateResponse EncodeTokens(const TokensOut& out, bool has_routes,
                                  const Tokenizer& tokenizer);
v1::GenerateResponse EncodeChoiceDone(const ChoiceDone& done);
// REQUIRES: info.status is OK.
v1::GenerateResponse EncodeDone(const DoneInfo& info);
v1::GetModelInfoResponse EncodeModelInfo(const ServedModel& model, const WorkerFacts& facts);

// The status of a generation that failed; with a retry_after, its details hold a
// google.rpc.RetryInfo.
grpc::Status EncodeFailure(const absl::Status& status, absl::Duration retry_after);

}  // namespace pregate
