#include "gateway_service/edge/gateway.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "gateway_service/core/anthropic_answer.h"
#include "gateway_service/core/anthropic_request.h"
#include "gateway_service/core/json_text.h"
#include "gateway_service/core/openai_answer.h"
#include "gateway_service/core/openai_request.h"
#include "gateway_service/core/page.h"
#include "gateway_service/core/tools.h"
#include "gateway_service/edge/generation_codec.h"
#include "gateway_service/edge/generation_exchange.h"

namespace pregate::gateway {

struct Route {
  const char* path;
  const char* method;
  bool is_open = false;                                            // needs no token
  absl::StatusOr<Generation> (*read)(const Json& body) = nullptr;  // of a generation
  Dialect dialect = Dialect::kOpenAi;
  const char* instead = nullptr;  // of one that is refused by name: why, or what to call
  bool is_page = false;           // only where the page is on
};

namespace {

constexpr absl::Duration kTimeoutMax = absl::Hours(24);
constexpr char kModelPrefix[] = "/v1/models/";

constexpr Route kRoutes[] = {
    {.path = "/v1/chat/completions", .method = "POST", .read = openai::ReadChatRequest},
    {.path = "/v1/completions", .method = "POST", .read = openai::ReadCompletionRequest},
    {.path = "/v1/messages",
     .method = "POST",
     .read = anthropic::ReadRequest,
     .dialect = Dialect::kAnthropic},
    {.path = "/v1/embeddings",
     .method = "POST",
     .instead = "the models that are served here generate text"},
    {.path = "/v1/responses", .method = "POST", .instead = "call /v1/chat/completions"},
    {.path = "/v1/models", .method = "GET"},
    {.path = "/health", .method = "GET", .is_open = true},
    {.path = "/version", .method = "GET", .is_open = true},
    // Open, as it is what asks people for a token; it tells nothing by itself.
    {.path = "/", .method = "GET", .is_open = true, .is_page = true},
    {.path = "/v1/pregate/cluster", .method = "GET", .is_page = true},
};

const Route* FindRoute(absl::string_view path) {
  if (absl::StartsWith(path, kModelPrefix)) path = "/v1/models";
  for (const Route& route : kRoutes) {
    if (path == route.path) return &route;
  }
  return nullptr;
}

// Visible ASCII that needs no escape anywhere.
bool IsRequestId(absl::string_view id) {
  return !id.empty() && id.size() <= static_cast<size_t>(kIdBytesMax) &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) ||
                  absl::StrContains("-_.:/+=", absl::string_view(reinterpret_cast<char*>(&c), 1));
         });
}

// "00-<32 hex>-<16 hex>-<2 hex>", and what later versions may add.
bool IsTraceparent(absl::string_view text) {
  if (text.size() < 55 || text.size() > static_cast<size_t>(kIdBytesMax)) return false;
  for (size_t i = 0; i < 55; ++i) {
    const bool is_dash = i == 2 || i == 35 || i == 52;
    if (is_dash ? text[i] != '-' : !absl::ascii_isxdigit(text[i])) return false;
  }
  return text.size() == 55 || text[55] == '-';
}

// "%2F" to "/"; what is no such escape stays.
std::string Unescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && absl::ascii_isxdigit(text[i + 1]) &&
        absl::ascii_isxdigit(text[i + 2])) {
      out += absl::HexStringToBytes(text.substr(i + 1, 2));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

absl::StatusOr<absl::Time> DeadlineOf(const HttpRequest& request) {
  const absl::string_view text = request.Header("x-request-timeout");
  if (text.empty()) return absl::InfiniteFuture();
  double seconds = 0;
  if (!absl::SimpleAtod(text, &seconds) || !(seconds > 0) ||
      seconds > absl::ToDoubleSeconds(kTimeoutMax)) {
    return Invalid("X-Request-Timeout", absl::StrCat("is ", JsonString(text.substr(0, 80)),
                                                     ", not seconds above 0 and up to ",
                                                     absl::ToInt64Seconds(kTimeoutMax)));
  }
  return absl::Now() + absl::Seconds(seconds);
}

// Of one of several prompts, as the scheduler logs it.
std::string IdOfPrompt(absl::string_view id, size_t prompt) {
  const std::string suffix = absl::StrCat("/", prompt);
  return absl::StrCat(id.substr(0, kIdBytesMax - suffix.size()), suffix);
}

// Of either protocol's clients.
absl::string_view TokenOf(const HttpRequest& request) {
  const absl::string_view bearer = BearerToken(request.Header("authorization"));
  return bearer.empty() ? request.Header("x-api-key") : bearer;
}

// Anything else could be sent by a page of a foreign site without asking.
bool IsJson(absl::string_view content_type) {
  const absl::string_view type = content_type.substr(0, content_type.find(';'));
  return absl::EqualsIgnoreCase(absl::StripAsciiWhitespace(type), "application/json");
}

}  // namespace

struct Gateway::Call {
  explicit Call(const HttpRequest& request) : route(FindRoute(request.path)) {
    const bool anthropic = !request.Header("anthropic-version").empty();
    dialect = anthropic || (route != nullptr && route->dialect == Dialect::kAnthropic)
                  ? Dialect::kAnthropic
                  : Dialect::kOpenAi;
    const absl::string_view id = request.Header("x-request-id");
    who.id =
        IsRequestId(id) ? std::string(id) : absl::StrCat(absl::Hex(RandomId(), absl::kZeroPad16));
    who.route = route == nullptr ? "other" : route->path;
    const absl::string_view trace = request.Header("traceparent");
    if (IsTraceparent(trace)) who.traceparent = std::string(trace);
    headers.emplace_back("X-Request-Id", who.id);
    if (dialect == Dialect::kAnthropic) headers.emplace_back("Request-Id", who.id);
  }

  const Route* const route;
  Dialect dialect;
  AccessLog::Who who;
  HttpHeaders headers;
};

HttpReply Gateway::Count(const Call& call, HttpReply reply) {
  metrics_->CountRequest(call.who.route, reply.status);
  return reply;
}

HttpReply Gateway::Fail(const Call& call, const ApiError& error) const {
  return ErrorReply(error, call.dialect, call.headers);
}

HttpReply Gateway::Malformed(int status, const std::string& why) {
  metrics_->CountRequest("other", status);
  ApiError error = HttpError(status, why);
  if (status == 503) error = ToApiError(absl::UnavailableError(why));
  return ErrorReply(error, Dialect::kOpenAi);
}

std::optional<HttpReply> Gateway::Refuse(const HttpRequest& head) {
  const Call call(head);
  const auto refuse = [&](const ApiError& error) { return Count(call, Fail(call, error)); };
  if (call.route == nullptr || (call.route->is_page && !page_)) {
    return refuse(HttpError(404, absl::StrCat("there is nothing at ", head.method, " ",
                                              head.path.substr(0, kIdBytesMax))));
  }
  if (head.method != call.route->method) {
    HttpReply reply = refuse(
        HttpError(405, absl::StrCat(call.route->path, " takes ", call.route->method, " only")));
    reply.headers.emplace_back("Allow", call.route->method);
    return reply;
  }
  if (tokens_ != nullptr && !call.route->is_open) {
    const absl::Status known = tokens_->Check(TokenOf(head));
    if (!known.ok()) {
      HttpReply reply = refuse(ToApiError(known));
      reply.headers.emplace_back("WWW-Authenticate", "Bearer");
      return reply;
    }
  }
  if (head.method == "GET") return std::nullopt;
  if (call.route->instead != nullptr) {
    return refuse(
        HttpError(501, absl::StrCat(call.route->path, " is not supported: ", call.route->instead)));
  }
  if (!IsJson(head.Header("content-type"))) {
    return refuse(HttpError(
        415, absl::StrCat("Content-Type is ", JsonString(head.Header("content-type").substr(0, 80)),
                          ", not application/json")));
  }
  if (draining_) return refuse(ToApiError(absl::UnavailableError("the server is draining")));
  return std::nullopt;
}

void Gateway::Handle(HttpRequest request, std::shared_ptr<HttpExchange> http) {
  Call call(request);
  if (call.route->read != nullptr) return Generate(std::move(call), request, std::move(http));
  const absl::string_view path = request.path;
  if (path == "/v1/pregate/cluster") return Cluster(std::move(call), std::move(http));
  HttpReply reply = {.headers = call.headers};
  if (path == "/health") {
    reply.status = ready() ? 200 : 503;
    reply.body = ready() ? R"({"status":"ok"})" : R"({"status":"no scheduler is ready"})";
  } else if (path == "/version") {
    reply.body = absl::StrCat(R"({"version":)", JsonString(Version()), R"(,"commit":)",
                              JsonString(Commit()), "}");
  } else if (path == "/") {
    reply.content_type = "text/html; charset=utf-8";
    reply.body = std::string(PageHtml());
    for (auto& header : PageHeaders()) reply.headers.push_back(std::move(header));
  } else {
    reply = Models(call, absl::StripPrefix(path, "/v1/models"));
  }
  http->Reply(Count(call, std::move(reply)));
}

// All of them, or "/ID".
HttpReply Gateway::Models(const Call& call, absl::string_view rest) {
  const std::vector<ModelCard> models = pool_->models();
  const int64_t created_s = absl::ToUnixSeconds(started_);
  HttpReply reply = {.headers = call.headers};
  if (rest.empty()) {
    reply.body = openai::ModelListBody(models, created_s);
    return reply;
  }
  const std::string id = Unescape(rest.substr(1));
  for (const ModelCard& model : models) {
    if (model.name != id) continue;
    reply.body = openai::ModelBody(model, created_s);
    return reply;
  }
  ApiError error = ToApiError(
      absl::NotFoundError(absl::StrCat("model ", JsonString(id.substr(0, 128)), " is not served")));
  return Fail(call, error);
}

void Gateway::Cluster(Call call, std::shared_ptr<HttpExchange> http) {
  pool_->AskClusters([this, call = std::move(call),
                      http = std::move(http)](const std::vector<SchedulerStatus>& schedulers) {
    HttpReply reply = {.body = ClusterBody(schedulers), .headers = call.headers};
    reply.headers.emplace_back("Cache-Control", "no-store");
    http->Reply(Count(call, std::move(reply)));
  });
}

void Gateway::Generate(Call call, const HttpRequest& request, std::shared_ptr<HttpExchange> http) {
  const auto refuse = [&](const ApiError& error) { http->Reply(Count(call, Fail(call, error))); };
  const auto body = ParseOrderedJson(request.body, "the body");
  if (!body.ok()) return refuse(ToApiError(body.status()));
  auto generation = call.route->read(*body);
  if (!generation.ok()) return refuse(ToApiError(generation.status()));
  const std::vector<ModelCard> models = pool_->models();
  // What a model that nobody serves could do is not asked: the schedulers refuse it.
  const auto model = std::find_if(models.begin(), models.end(), [&](const ModelCard& card) {
    return generation->model.empty() || card.name == generation->model;
  });
  if (model != models.end()) {
    const ToolFormat* const format = model->tool_format ? &*model->tool_format : nullptr;
    const absl::Status tools = ApplyTools(format, model->name, &*generation);
    if (!tools.ok()) return refuse(ToApiError(tools));
  }
  const auto deadline = DeadlineOf(request);
  if (!deadline.ok()) return refuse(ToApiError(deadline.status()));
  std::vector<GenerateJob> jobs;
  for (int32_t i = 0; i < generation->num_prompts(); ++i) {
    jobs.push_back({.request = EncodeGeneration(*generation, i),
                    .deadline = *deadline,
                    .traceparent = call.who.traceparent});
    if (jobs.back().request.ByteSizeLong() > static_cast<size_t>(kClientMessageBytesMax) - 1024) {
      return refuse(
          HttpError(413, absl::StrCat("the request has more than ", kClientMessageBytesMax,
                                      " bytes for the scheduler")));
    }
  }
  std::function<void(int64_t)> charge = [](int64_t) {};
  std::function<void()> release = [] {};
  if (tokens_ != nullptr) {
    const TokenFile::Verdict verdict = tokens_->Admit(TokenOf(request));
    if (!verdict.status.ok()) return refuse(ToApiError(verdict.status, verdict.retry_after));
    charge = [t = tokens_, token = verdict.token](int64_t n) { t->Charge(token, n); };
    release = [t = tokens_, token = verdict.token] { t->Release(token); };
    call.who.tenant = verdict.token.tenant;
    // Who has a token's priority may take a lower one, not a higher one.
    const int32_t highest = verdict.token.priority;
    for (GenerateJob& job : jobs) {
      job.request.set_priority(std::min(generation->priority.value_or(highest), highest));
    }
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].request.set_request_id(jobs.size() == 1 ? call.who.id : IdOfPrompt(call.who.id, i));
    jobs[i].request.set_tenant(call.who.tenant);
  }
  AnswerHead head = {.id = call.who.id, .created_s = absl::ToUnixSeconds(absl::Now())};
  head.model = generation->model;
  if (head.model.empty() && !models.empty()) head.model = models.front().name;
  const auto exchange = std::make_shared<GenerationExchange>(GenerationExchange::Context{
      .dialect = call.dialect,
      .stream = generation->stream,
      .choices = generation->n,
      .several_choices = generation->n > 1 || generation->best_of > 1,
      .headers = call.headers,
      .answer = call.route->dialect == Dialect::kAnthropic
                    ? anthropic::MakeAnswer(*generation, std::move(head))
                    : openai::MakeAnswer(*generation, std::move(head)),
      .http = std::move(http),
      .on_stream = [this](int change) { metrics_->CountStreams(change); },
      .on_first_token = [this](absl::Duration ttft) { metrics_->NoteFirstToken(ttft); },
      .on_tokens = std::move(charge),
      .on_end =
          [this, who = call.who, release](const ExchangeOutcome& outcome) {
            release();
            metrics_->CountRequest(who.route, outcome.http_status);
            log_->Add(who, outcome);
          }});
  exchange->Begin(pool_, std::move(jobs));
}

}  // namespace pregate::gateway
