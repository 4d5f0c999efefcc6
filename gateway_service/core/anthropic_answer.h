// Answers of Anthropic's /v1/messages.
#pragma once

#include <memory>

#include "gateway_service/core/answer.h"

namespace pregate::gateway::anthropic {

// Streams: message_start, content_block_start, content_block_delta ..., content_block_stop,
// message_delta, message_stop.
std::unique_ptr<Answer> MakeAnswer(const Generation& generation, AnswerHead head);

}  // namespace pregate::gateway::anthropic
