// Short texts that options, peers and terminals give. The first byte chooses the parser.
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/config/values.h"
#include "common/tls/access_table.h"
#include "common/tls/identity.h"
#include "tests/fuzz/format.h"

namespace pregate::fuzz::option_values {
namespace {

bool RunAddress(absl::string_view text) {
  const auto address = ParseAddress(text);
  if (!address.ok()) return false;
  StaysOnThisMachine(*address);
  const auto again = ParseAddress(address->ToString());
  PREGATE_CHECK(again.ok() && again->ToString() == address->ToString(), "", address->ToString());
  return true;
}

bool RunBytes(absl::string_view text) {
  const auto bytes = ParseBytes(text);
  if (bytes.ok()) PREGATE_CHECK(ParseBytes(FormatBytes(*bytes)).value_or(-1) == *bytes);
  return bytes.ok();
}

bool RunCount(absl::string_view text) {
  const auto count = ParseCount(text);
  if (count.ok()) PREGATE_CHECK(ParseCount(FormatCount(*count)).value_or(-1) == *count);
  return count.ok();
}

bool RunNumber(absl::string_view text) {
  const bool is_int = ParseInt(text).ok(), is_double = ParseDouble(text).ok();
  return is_int || is_double || ParseBool(text).ok();
}

bool RunIdentity(absl::string_view text) {
  const auto role = ParseIdentity(text, "pregate.internal");
  if (role.ok()) PREGATE_CHECK(IdentityUri("pregate.internal", *role) == text);
  return role.ok();
}

// All bytes may be asked for; few are there.
bool RunCall(absl::string_view text) {
  for (const Role role : AllRoles()) {
    if (CheckAccess(role, text).ok()) return true;
  }
  return false;
}

constexpr bool (*kParsers[])(absl::string_view) = {RunAddress,  RunBytes, RunNumber,
                                                   RunIdentity, RunCall,  RunCount};

bool Run(std::string_view input) {
  if (input.empty()) return false;
  return kParsers[static_cast<unsigned char>(input[0]) % std::size(kParsers)](
      AbslView(input.substr(1)));
}

std::vector<std::string> Seeds() {
  using namespace std::string_literals;
  std::vector<std::string> seeds;
  for (const char* text : {"127.0.0.1:7600", "[::1]:7600", "unix:/run/pregate.sock"}) {
    seeds.push_back("\0"s + text);
  }
  for (const char* text : {"512MiB", "2GB", "1048576"}) seeds.push_back("\1"s + text);
  for (const char* text : {"-17", "0.25e-3", "yes"}) seeds.push_back("\2"s + text);
  seeds.push_back("\3spiffe://pregate.internal/pregate/router");
  seeds.push_back("\4GET /metrics");
  seeds.push_back("\4/pregate.v1.Inference/Generate");
  for (const char* text : {"200k", "1.5M"}) seeds.push_back("\5"s + text);
  return seeds;
}

const Registration registration(
    {.name = "option_values", .seeds = Seeds, .run = Run, .bytes_max = 512});

}  // namespace
}  // namespace pregate::fuzz::option_values
