// Answers of /v1/chat/completions and /v1/completions, and what /v1/models lists.
#pragma once

#include <memory>
#include <string>

#include "gateway_service/core/answer.h"

namespace pregate::gateway::openai {

// Chat where the prompt is a conversation. Streams end with "data: [DONE]".
std::unique_ptr<Answer> MakeAnswer(const Generation& generation, AnswerHead head);

// One model, and the list of them.
std::string ModelBody(const ModelCard& model, int64_t created_s);
std::string ModelListBody(const std::vector<ModelCard>& models, int64_t created_s);

}  // namespace pregate::gateway::openai
