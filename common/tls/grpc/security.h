// Plaintext on this machine, or mutual TLS to anywhere: decided once in main by --tls-dir, and
// handed to whatever listens or dials.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/config/address.h"
#include "common/tls/tls_gate.h"

namespace pregate {

// Thread-safe. Outlives the servers and channels that are made with it.
class Security {
 public:
  // Plaintext where options.dir is empty; else reads and checks the files, whose certificate must
  // be of one of `own` roles. Errors name the option and the file at fault. A thread looks for
  // changed files: good ones are taken for new connections, bad ones refused, both are logged.
  // `log` and `clock` outlive the object.
  static absl::StatusOr<std::unique_ptr<Security>> Load(const TlsOptions& options, RoleSet own,
                                                        const Log* log, Clock* clock);
  ~Security();

  bool encrypted() const;

  // Of an option's value, which errors name: any address with TLS, this machine's without.
  absl::StatusOr<Address> ParseAddress(absl::string_view option, absl::string_view text) const;

  // For a server that shakes hands with `clients` of our authority, whose calls pass the access
  // table.
  std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(RoleSet clients) const;
  // For a channel to a server that must be of one of `server` roles; host names are not compared.
  std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(RoleSet server) const;

  const TlsGate* gate() const;  // null: plaintext
  Role role() const;            // of our own certificate. REQUIRES: encrypted()

 private:
  struct State;
  explicit Security(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate
