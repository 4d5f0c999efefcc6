// How the events of a generation become the text of an HTTP answer: as a stream of server-sent
// events or as one body. One implementation for each protocol and form.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "gateway_service/core/api_error.h"
#include "gateway_service/core/generation.h"

namespace pregate::gateway {

// Not thread-safe. Each call returns what to send now: of a stream its next events, of a whole answer
// nothing until Finish, which returns the body.
class Answer {
 public:
  virtual ~Answer() = default;
  virtual std::string Start(const Started& started) = 0;
  virtual std::string AddPrompt(const PromptTokens&) { return ""; }
  virtual std::string Add(const Tokens& tokens) = 0;
  virtual std::string FinishChoice(const ChoiceFinished&) { return ""; }
  virtual std::string Finish(const Finished& finished) = 0;
  // The end of a stream that broke after Start; unused of whole answers.
  virtual std::string Fail(const ApiError& error) = 0;
};

// What every answer says of itself.
struct AnswerHead {
  std::string id;     // of the request: the protocol's prefix comes before it
  int64_t created_s;  // since 1970
  std::string model;  // that answers
};

}  // namespace pregate::gateway
