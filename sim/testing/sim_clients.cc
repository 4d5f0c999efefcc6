#include "sim/testing/sim_clients.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "scheduler_service/engine/token_output.h"

namespace pregate::scheduler {

// One attempt: it takes a start, tokens, and one end.
class SimClients::Stream {
 public:
  Stream(SimClients* clients, SimClient* client)
      : clients_(clients),
        client_(client),
        end_by_(std::max(client->request.deadline, clients->world_->clock()->Now())) {}
  void Take(const StartInfo& info) {
    Expect(!started_ && !done_, "a second start");
    started_ = true;
    if (broken_) return;
    client_->start = info;
    ++client_->num_starts;
  }
  void Take(const PromptOut& out) {
    Expect(started_ && !done_ && !has_tokens_, "the prompt's scores late");
    if (broken_) return;
    for (size_t i = 0; i < out.logprobs.size(); ++i) {
      const size_t position = out.position + i;  // a second stream may begin again
      if (position == client_->prompt_logprobs.size() + 1) client_->prompt_logprobs.push_back({});
      Expect(position <= client_->prompt_logprobs.size(), "the prompt's scores with a hole");
      client_->prompt_logprobs[position - 1] = out.logprobs[i].at(0).logprob;
    }
  }
  void Take(const ChoiceDone&) { Expect(false, "the end of a choice"); }
  void Take(const TokensOut& out) {
    Expect(started_ && !done_, "tokens before the start or after the end");
    Expect(!out.tokens.empty() && out.routes.size() == out.tokens.size(), "tokens without routes");
    const size_t logprobs = client_->request.logprobs ? out.tokens.size() : 0;
    Expect(out.logprobs.size() == logprobs, "log-probabilities of other tokens");
    has_tokens_ = true;
    if (broken_) return;
    for (size_t i = 0; i < out.logprobs.size(); ++i) {
      const std::vector<TokenLogprob>& one = out.logprobs[i];
      const size_t asked = 1 + *client_->request.logprobs;
      Expect(one.size() == asked && one[0].token == out.tokens[i], "log-probabilities");
      client_->logprobs.push_back(one[0].logprob);
    }
    client_->tokens.insert(client_->tokens.end(), out.tokens.begin(), out.tokens.end());
    client_->routes.insert(client_->routes.end(), out.routes.begin(), out.routes.end());
    client_->text += out.text;
    clients_->world_->Log("client gets ", out.tokens.size(), " tokens, ", out.text);
  }
  void Take(const DoneInfo& info) {
    Expect(!done_, "a second end");
    Expect(clients_->world_->clock()->Now() <= end_by_, "an end after the cancel or the deadline");
    if (std::exchange(done_, true) || broken_) return;
    clients_->OnDone(client_, info, started_);
  }
  // The engine learns that nobody reads on, and ends it in this turn of its loop.
  void Detach(LinkId link) {
    end_by_ = std::min(end_by_, clients_->world_->clock()->Now());
    clients_->world_->Deliver(DetachEvent{link});
  }
  // What is sent from now on is lost. False: it has ended.
  bool Break() {
    if (!done_) broken_ = true;
    return broken_;
  }
  // A broken one too gets its end.
  bool ended() const { return done_; }

 private:
  void Expect(bool condition, const char* what) {
    if (!condition) client_->misuse = what;
  }

  SimClients* const clients_;
  SimClient* const client_;
  absl::Time end_by_;
  bool started_ = false, done_ = false, broken_ = false, has_tokens_ = false;
};

SimClients::SimClients(SimWorld* world, const FakeModel& model, const SimLoad& load)
    : world_(world), model_(model), tokenizer_(model.vocab_size) {
  SplitMix64& random = world_->random();
  for (int i = 0; i < load.num_clients; ++i) {
    auto client = std::make_unique<SimClient>();
    client->request = RandomRequest(load);
    client->request.client = i % 3;
    client->request.tenant = i % 5 == 4 ? "other" : "";
    if (i > 0 && load.percent_begun_alike > 0 &&
        static_cast<int>(random.Next() % 100) < load.percent_begun_alike) {
      BeginAlike(clients_[random.Next() % i]->request, load.prompt_max, &client->request);
    }
    const int dice = static_cast<int>(random.Next() % 100);
    if (dice < load.percent_cancelled) {
      client->cancel_after = world_->RandomDuration(absl::Milliseconds(1), absl::Seconds(2));
    } else if (dice < load.percent_cancelled + load.percent_deadline) {
      client->request.deadline = world_->clock()->Now() +
                                 world_->RandomDuration(absl::Milliseconds(100), absl::Seconds(4));
    }
    if (static_cast<int>(random.Next() % 100) < load.percent_resumed) Resume(client.get());
    if (static_cast<int>(random.Next() % 100) < load.percent_broken)
      client->break_after = world_->RandomDuration(absl::Milliseconds(1), absl::Seconds(1));
    clients_.push_back(std::move(client));
    arrivals_.push_back(world_->RandomDuration(absl::ZeroDuration(), load.spread));
  }
}

GenerateRequest SimClients::RandomRequest(const SimLoad& load) {
  SplitMix64& random = world_->random();
  GenerateRequest request;
  request.seed = random.Next();
  // A prompt that repeats as the samples do has right drafts from the start, the stop among them.
  const bool repeats = model_.repeating > 0 && random.Next() % 4 == 0;
  const auto prompt_len = static_cast<int32_t>(1 + random.Next() % load.prompt_max);
  for (int32_t i = 0; i < prompt_len; ++i) {
    request.prompt.push_back(repeats ? model_.Repeated(i, *request.seed)
                                     : static_cast<TokenId>(random.Next() % model_.vocab_size));
  }
  request.max_tokens = 1 + random.Next() % load.max_tokens_max;
  if (random.Next() % 4 == 0) request.min_tokens = random.Next() % (*request.max_tokens + 1);
  if (random.Next() % 5 == 0) request.sampling.presence_penalty = 1;
  if (random.Next() % 3 == 0) request.logprobs = random.Next() % 4;
  if (random.Next() % 4 == 0) request.prompt_logprobs = random.Next() % 4;
  request.priority = static_cast<int32_t>(random.Next() % 3) - 1;
  request.ignore_eos = random.Next() % 2 == 0;
  if (random.Next() % 6 == 0) request.stop_tokens = {static_cast<TokenId>(3 + random.Next() % 9)};
  if (repeats && random.Next() % 2 == 0) {
    request.stop_tokens.push_back(
        model_.Repeated(static_cast<int32_t>(random.Next() % FakeModel::kPeriod), *request.seed));
  }
  const char* const stops[] = {"ab", "ababc", "bc a", "gg", "\xC3\xA9", "fed", "bc "};
  for (size_t i = random.Next() % 3; i > 0; --i)
    request.stop_strings.push_back(stops[random.Next() % 7]);
  return request;
}

// A random part of the other's conversation so far, then the request's own prompt.
void SimClients::BeginAlike(const GenerateRequest& other, size_t size_max,
                            GenerateRequest* request) {
  GenerateRequest whole = other;
  whole.resume_tokens.clear();
  whole.resume_routes.clear();
  std::vector<TokenId> prompt = other.prompt;
  const ReferenceAnswer answer = Generate(model_, tokenizer_, whole);
  prompt.insert(prompt.end(), answer.tokens.begin(), answer.tokens.end());
  prompt.resize(1 + world_->random().Next() % prompt.size());
  prompt.insert(prompt.end(), request->prompt.begin(), request->prompt.end());
  prompt.resize(std::min(prompt.size(), size_max));
  request->prompt = std::move(prompt);
}

// As if the stream had broken after some tokens.
void SimClients::Resume(SimClient* client) {
  GenerateRequest& request = client->request;
  const ReferenceAnswer whole = Generate(model_, tokenizer_, request);
  client->num_resumed = world_->random().Next() % whole.tokens.size();
  request.resume_tokens.assign(whole.tokens.begin(), whole.tokens.begin() + client->num_resumed);
  if (model_.num_experts > 0 && world_->random().Next() % 2 == 0) {
    request.resume_routes.assign(whole.routes.begin(), whole.routes.begin() + client->num_resumed);
  }
}

void SimClients::Start() {
  for (size_t i = 0; i < clients_.size(); ++i) {
    world_->After(arrivals_[i], [this, client = clients_[i].get()] {
      client->asked = world_->clock()->Now();
      Submit(client);
    });
  }
}

void SimClients::Submit(SimClient* client) {
  const LinkId link = next_link_++;
  auto stream = std::make_shared<Stream>(this, client);
  SubmitEvent event;
  event.link = link;
  event.request = client->request;
  event.send = SendTo(stream);
  streams_.push_back(stream);
  world_->Deliver(std::move(event));
  if (client->cancel_after) world_->After(*client->cancel_after, [=] { stream->Detach(link); });
  if (client->break_after && client->resumes == 0)
    world_->After(*client->break_after, [=, this] { Break(client, stream.get(), link); });
}

// The edge tells the engine of the loss; the client has what came before it.
void SimClients::Break(SimClient* client, Stream* stream, LinkId link) {
  if (client->resumes > 0 || !stream->Break()) return;
  world_->Log("a client's stream breaks after ", client->tokens.size(), " tokens");
  stream->Detach(link);
  ++client->resumes;
  GenerateRequest& request = client->request;
  request.resume_tokens.insert(request.resume_tokens.end(), client->tokens.begin(),
                               client->tokens.end());
  // All or none: its first resume may have left them out.
  if (request.resume_routes.size() + client->routes.size() == request.resume_tokens.size()) {
    request.resume_routes.insert(request.resume_routes.end(), client->routes.begin(),
                                 client->routes.end());
  } else {
    request.resume_routes.clear();
  }
  if (model_.num_experts == 0) request.resume_routes.clear();
  world_->After(world_->RandomDuration(absl::Milliseconds(1), absl::Milliseconds(50)),
                [this, client] { Submit(client); });
}

void SimClients::OnDone(SimClient* client, const DoneInfo& info, bool started) {
  world_->Log("client is done: ", FinishReasonName(info.reason), ", ", info.status.message());
  const bool refused =
      !started && (absl::IsResourceExhausted(info.status) || absl::IsUnavailable(info.status));
  if (refused && client->refusals++ < 1000) {
    const absl::Duration wait = std::max(info.retry_after, absl::Milliseconds(20));
    world_->After(wait, [this, client] { Submit(client); });
    return;
  }
  client->done = info;
  client->done_at = world_->clock()->Now();
  if (++num_done_ == clients_.size()) DrainWhenCalm();
}

// Time enough for what has failed to come back, and for the last slots to be dropped.
void SimClients::DrainWhenCalm() {
  const absl::Time calm =
      std::max(world_->clock()->Now(), world_->faults_over()) + absl::Seconds(20);
  world_->At(calm, [=, this] {
    const bool is_calm = world_->faults_over() + absl::Seconds(20) <= calm;
    is_calm ? world_->Deliver(DrainEvent{}) : DrainWhenCalm();
  });
}

std::string SimClients::Check(const SimClient& client, bool service_routes) const {
  if (!client.done) return "never done";
  if (!client.misuse.empty()) return client.misuse;
  const GenerateRequest& request = client.request;
  GenerateRequest whole = request;
  whole.resume_tokens.clear();
  whole.resume_routes.clear();
  ReferenceAnswer want = Generate(model_, tokenizer_, whole);
  if (service_routes) want.routes.back() = kNoRoute;
  // A resumed stream continues after the text that went out with the resumed tokens.
  TokenOutput::Rules rules;
  rules.stop_strings = request.stop_strings;
  rules.max_tokens = *request.max_tokens;
  rules.min_tokens = request.min_tokens;
  TokenOutput before(tokenizer_, rules);
  for (size_t i = 0; i < client.num_resumed; ++i) before.Accept(request.resume_tokens[i]);
  want.text.erase(0, before.TakeText().size());
  want.tokens.erase(want.tokens.begin(), want.tokens.begin() + client.num_resumed);
  want.routes.erase(want.routes.begin(), want.routes.begin() + client.num_resumed);
  want.logprobs.erase(want.logprobs.begin(), want.logprobs.begin() + client.num_resumed);
  if (!request.logprobs) want.logprobs.clear();
  // Who resumes with tokens has had the prompt's.
  if (!request.prompt_logprobs || client.num_resumed > 0) want.prompt_logprobs.clear();

  const DoneInfo& done = *client.done;
  const bool stopped_early =
      done.reason == FinishReason::kCancelled || done.reason == FinishReason::kDeadline;
  const bool may_stop_early = client.cancel_after || request.deadline != absl::InfiniteFuture();
  const bool has_failed = absl::StrContains(done.status.message(), kFailedRow);
  if ((stopped_early && may_stop_early) || has_failed) {
    if (want.text.compare(0, client.text.size(), client.text) != 0) return "text is no prefix";
    if (client.tokens.size() > want.tokens.size()) return "more tokens than there are";
    want.tokens.resize(client.tokens.size());
    return client.tokens == want.tokens ? "" : "tokens are no prefix";
  }
  if (!done.status.ok()) return done.status.ToString();
  if (client.num_starts < 1 || client.num_starts > 1 + client.resumes)
    return absl::StrCat(client.num_starts, " starts");
  if (model_.num_experts > 0 && client.start.prompt_routes != want.prompt_routes)
    return "prompt routes differ";
  if (client.tokens != want.tokens) return "tokens differ";
  if (client.routes != want.routes) return "routes differ";
  if (client.logprobs != want.logprobs) return "log-probabilities differ";
  if (client.prompt_logprobs != want.prompt_logprobs) return "the prompt's scores differ";
  if (client.text != want.text)
    return absl::StrCat("text is '", client.text, "', must be '", want.text, "'");
  if (done.reason != want.reason) return absl::StrCat("reason is ", FinishReasonName(done.reason));
  if (done.stop_string != want.stop_string) return "stop string differs";
  const size_t num_generated = client.num_resumed + want.tokens.size();
  return done.generated_tokens == static_cast<int32_t>(num_generated) ? ""
                                                                      : "generated_tokens differs";
}

int SimClients::num_open_streams() const {
  return static_cast<int>(std::count_if(streams_.begin(), streams_.end(),
                                        [](const auto& stream) { return !stream->ended(); }));
}

int64_t SimClients::num_reference_tokens() const {
  int64_t total = 0;
  for (const auto& client : clients_)
    total += client->request.prompt.size() + *client->request.max_tokens;
  return total;
}

}  // namespace pregate::scheduler
