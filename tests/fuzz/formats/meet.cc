// What the workers of a group send each other to form it.
#include "common/collective/rendezvous_table.h"
#include "expert_service/edge/meet_messages.h"
#include "tests/fuzz/proto_format.h"

namespace pregate::fuzz::meet {
namespace {

constexpr char kToken[] = "0123456789abcdef0123456789abcdef";  // stands for the table's own

std::vector<v1::MeetRequest> Requests() {
  v1::MeetRequest request;
  request.set_token(kToken);
  request.set_rank(1);
  request.set_world_size(2);
  request.set_blob("b");
  request.set_timeout_ms(1000);
  return {request};
}

// Rank 0 of two waits already. Whatever rank 1 sends, each of them is answered once.
bool RunRequest(const v1::MeetRequest& request) {
  if (!CheckMeetRequest(request).ok()) return false;
  int num_answers = 0, num_met = 0;
  const auto count = [&](const absl::StatusOr<std::vector<std::string>>& blobs) {
    ++num_answers;
    if (!blobs.ok()) return;
    ++num_met;
    PREGATE_CHECK(*blobs == std::vector<std::string>({"a", request.blob()}));
  };
  {
    RendezvousTable table(MeetLimits());
    const std::string token = table.Open();
    table.Enter(token, 0, 2, "a", count);
    const auto ticket = table.Enter(request.token() == kToken ? token : request.token(),
                                    request.rank(), request.world_size(), request.blob(), count);
    table.Leave(ticket, absl::StatusCode::kUnavailable);
  }
  PREGATE_CHECK(num_answers == 2 && (num_met == 0 || num_met == 2));
  return num_met == 2;
}

std::vector<v1::MeetResponse> Responses() {
  v1::MeetResponse response;
  for (const char* blob : {"a", "b"}) response.add_blobs(blob);
  return {response};
}

// Where a host dials in plaintext, it dials with TLS too.
bool RunRendezvous(std::string_view input) {
  const auto plaintext = ParseMeetRendezvous(AbslView(input), /*encrypted=*/false);
  const auto encrypted = ParseMeetRendezvous(AbslView(input), /*encrypted=*/true);
  if (plaintext.ok()) {
    PREGATE_CHECK(encrypted.ok() && encrypted->ToString() == plaintext->ToString());
  }
  if (!encrypted.ok()) return false;
  const std::string text = encrypted->ToString();
  const auto again = ParseMeetRendezvous(text, /*encrypted=*/true);
  PREGATE_CHECK(again.ok() && again->ToString() == text, "", text);
  return true;
}

std::vector<std::string> Rendezvous() {
  std::vector<std::string> texts;
  for (const char* host : {"127.0.0.1:7620", "[::1]:1", "unix:/a/b", "worker-0.workers:7620"}) {
    texts.push_back(absl::StrCat(host, "/", kToken));
  }
  return texts;
}

const Registration request(ProtoFormat<v1::MeetRequest>("meet_request", Requests, RunRequest));

const Registration response(
    ProtoFormat<v1::MeetResponse>("meet_response", Responses, [](const v1::MeetResponse& message) {
      return CheckMeetResponse(message, /*world_size=*/2).ok();
    }));

const Registration rendezvous(
    {.name = "meet_rendezvous", .seeds = Rendezvous, .run = RunRendezvous, .bytes_max = 512});

}  // namespace
}  // namespace pregate::fuzz::meet
