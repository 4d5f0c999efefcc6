// Reads one HTTP page within a time, however the server behaves.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/config/address.h"
#include "common/tls/tls_material.h"

namespace pregate {

struct HttpGetOptions {
  absl::Duration timeout = absl::Seconds(10);  // for all of it; a name is looked up beyond that
  size_t body_bytes_max = 1 << 20;
  // Null: plain HTTP. Else the server's certificate must be of one of `servers` under the same
  // authority, whatever its host name; ours is shown if `tls` has one.
  const TlsMaterial* tls = nullptr;
  RoleSet servers = RoleSet::All();
  std::function<bool()> cancelled;  // asked now and then; null: never
};

struct HttpPage {
  int status = 0;
  std::string body;
};

// UNAVAILABLE with the reason when there is no whole answer; the check's status when the server's
// certificate is not to be believed.
absl::StatusOr<HttpPage> HttpGet(const Address& address, const std::string& path,
                                 const HttpGetOptions& options = {});

}  // namespace pregate
