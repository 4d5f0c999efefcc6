// The structs of gateway_service/core to and from the gRPC API's messages. A field that both have is
// a line here.
#pragma once

#include <string>

#include "gateway_service/core/generation.h"
#include "pregate/v1/inference.pb.h"

namespace pregate::gateway {

// Of one of its prompts. REQUIRES: prompt < generation.num_prompts().
v1::GenerateRequest EncodeGeneration(const Generation& generation, int32_t prompt = 0);

Started DecodeStart(const v1::GenerateStart& in);
PromptTokens DecodePrompt(const v1::GeneratePrompt& in);
Tokens DecodeTokens(const v1::GenerateTokens& in);
ChoiceFinished DecodeChoiceDone(const v1::GenerateChoiceDone& in);
Finished DecodeDone(const v1::GenerateDone& in);

}  // namespace pregate::gateway
